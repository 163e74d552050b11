"""Time text on its way to prompts: `python -m benchmarks.packing`.

Reads, tokenizes and packs the standard library with the bundled model's tokenizer, over and over until there are enough tokens,
as an ingest does before it measures. Each packing is timed on its own; its first prompts are made once before.
"""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from selfrepair.ingest.models.demo import DEMO_FOLDER
from selfrepair.ingest.models.tokenizer import Vocabulary
from selfrepair.ingest.text import stdlib
from selfrepair.ingest.text.documents import Document
from selfrepair.ingest.text.prompts import PACKINGS, PromptOptions, build_prompts
from selfrepair.ingest.text.sources import Source

SEQ_LEN = 128


@click.command()
@click.option("--tokens", default=1_000_000, show_default=True, help="How many tokens, about.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too."
)
def main(tokens: int, json_file: Path | None) -> None:
    """Time every packing on TOKENS tokens of text."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO_FOLDER)
    texts = [text for split in stdlib.SPLITS for _, text in stdlib.documents(split)]
    figures: dict[str, float] = {}
    for packing in PACKINGS:
        _prompts(texts, tokenizer, packing, 1)
        began = time.perf_counter()
        n_tokens = _prompts(texts, tokenizer, packing, max(1, tokens // SEQ_LEN))
        figures[packing] = n_tokens / (time.perf_counter() - began)
    _print(tokens, figures)
    if json_file:
        json_file.write_text(json.dumps({"tokens_per_s": figures}, indent=1) + "\n")


def _prompts(texts: list[str], tokenizer: PreTrainedTokenizerBase, packing: str, n_prompts: int) -> int:
    """Make prompts; returns how many tokens they have."""
    found = build_prompts(
        Source("stdlib, repeated", None, None, _repeated(texts)),
        Vocabulary(tokenizer, len(tokenizer), None),
        PromptOptions(n_prompts, SEQ_LEN, packing, resample=False),
    )
    return sum(len(prompt.tokens) for prompt in found.prompts)


def _repeated(texts: list[str]) -> Iterator[Document]:
    return (Document(number, text) for number, text in enumerate(itertools.cycle(texts)))


def _print(tokens: int, figures: dict[str, float]) -> None:
    table = Table("packing", title=f"{tokens:,} tokens of the standard library", title_justify="left", min_width=40)
    table.add_column("tokens a second", justify="right")
    for packing, rate in figures.items():
        table.add_row(packing, f"{rate:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
