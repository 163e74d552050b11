"""The options of `selfrepair bench`, as they were typed."""

from dataclasses import dataclass
from pathlib import Path

import click

from selfrepair.ingest.request.options import option


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """What to time: each field is an option and carries its help."""

    shape: str = option(
        "Model shape, with random weights. Behind Gemma's post-norms, TransformerLens splits no heads: hooks are left out.",
        "gpt2-small",
        type=click.Choice(["gpt2-small", "pythia-160m", "gemma3-270m", "demo"]),
    )
    seq_len: int = option("Tokens in a prompt.", 128, type=click.IntRange(2))
    n_prompts: int = option("Prompts to measure.", 8, flag="--prompts", type=click.IntRange(2))
    heads_per_layer: int = option("Heads ablated in each layer, at most.", 12, type=click.IntRange(1))
    dtype: str = option("What the layers compute in.", "float32", type=click.Choice(["float32", "tf32", "bfloat16"]))
    device: str = option("auto, cpu, cuda, cuda:1, mps.", "auto")
    batch_size: str = option("Sequences in one forward.", "auto")
    mechanisms: bool = option("Time the mechanisms against the effects alone instead.", False)
    repeats: int = option("Interleaved rounds; medians are shown.", 3, type=click.IntRange(1))
    json_file: Path | None = option(  # noqa: RUF009 - it is a field
        "Write the figures here too.", None, flag="--json", type=click.Path(dir_okay=False, path_type=Path)
    )
