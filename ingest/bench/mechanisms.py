"""Time the mechanisms against the ingest without them: the same units, measured and written, in turns in one process."""

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table

from selfrepair.ingest.bench.engine import device_name, shaped
from selfrepair.ingest.conventions import Precision
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.engine.malloc import keep_freed_memory
from selfrepair.ingest.engine.peak_memory import peak_memory_mb
from selfrepair.ingest.engine.timing import seconds
from selfrepair.ingest.models.adapter import Atlas
from selfrepair.ingest.models.loading import LoadedModel, model_record
from selfrepair.ingest.request.devices import choose_device, choose_precision
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.selection import parse_batch_size
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.plan import RunPlan, plan_run
from selfrepair.ingest.runs.runner import find_top_rows, measure_unit
from selfrepair.ingest.text.prompts import Prompt, PromptSet
from selfrepair.ingest.text.sources import Source
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import MECHANISM_TABLES, Manifest

VARIANTS = {
    "effects alone": Mechanisms(),
    "with edges and neurons of the last MLP": Mechanisms(edges=True, neurons="last"),
    "with logit_lens by layer": Mechanisms(logit_lens=True),
    "with self_repression": Mechanisms(self_repression=True),
    "with neurons of all MLPs": Mechanisms(neurons="all"),
    "with log-probabilities": Mechanisms(logprobs=True),
}
"""In the order in which they run; the first is what the others are compared with."""


@dataclass(frozen=True)
class VariantFigures:
    """One variant against the effects alone (one ablation kind, resample); times are medians over rounds.

    `added_time` is in shares of the base's time, `added_bytes` in shares of the bytes of its `measurements` part files,
    `added_memory_mb` the growth of the process's peak since the variant before.
    """

    variant: str
    seconds: float
    added_time: float
    added_bytes: float
    added_memory_mb: float


def run(
    shape: str,
    *,
    seq_len: int,
    n_prompts: int,
    heads_per_layer: int,
    dtype: str,
    device: str,
    batch_size: str,
    repeats: int,
    json_file: Path | None,
) -> None:
    """Measure, print a table, and write JSON where asked."""
    chosen = choose_device(device)
    precision = choose_precision(dtype, chosen)
    atlas = shaped(shape, precision, chosen)
    size = parse_batch_size(batch_size) or auto_batch_size(atlas, seq_len)
    figures = compare(atlas, shape, precision, seq_len, n_prompts, heads_per_layer, size, repeats)
    _print(shape, dtype, chosen, figures)
    text = json.dumps([asdict(variant) for variant in figures], indent=2)
    if json_file is not None:
        json_file.write_text(text + "\n")
    click.echo(text)


@torch.inference_mode()
def compare(
    atlas: Atlas,
    name: str,
    precision: Precision,
    seq_len: int,
    n_prompts: int,
    heads_per_layer: int,
    batch_size: int,
    repeats: int,
) -> list[VariantFigures]:
    """Every variant on the same random prompts; each finds its top rows anew where it needs them."""
    keep_freed_memory()
    tokens = torch.randint(0, atlas.d_vocab, (n_prompts, seq_len), generator=torch.Generator().manual_seed(0)).tolist()
    heads = [(layer, head) for layer in range(atlas.n_layers) for head in range(min(heads_per_layer, atlas.n_heads))]
    taken: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    n_bytes: dict[str, tuple[int, int]] = {}
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats):
            for variant, mechanisms in VARIANTS.items():
                plan = _plan(atlas, name, precision, tokens, heads, mechanisms)
                parts = PartsFolder(Path(folder) / str(number), plan.record.run_key)
                before = peak_memory_mb(atlas.device)
                taken[variant] += seconds(_ingest(plan, parts, batch_size), atlas.device, 1)
                memory.setdefault(variant, peak_memory_mb(atlas.device) - before)
                n_bytes[variant] = _bytes(parts)
    base = next(iter(VARIANTS))
    return [
        VariantFigures(
            variant=variant,
            seconds=statistics.median(times),
            added_time=statistics.median(own / alone for own, alone in zip(times, taken[base], strict=True)) - 1,
            added_bytes=n_bytes[variant][1] / n_bytes[base][0],
            added_memory_mb=memory[variant],
        )
        for variant, times in taken.items()
    ]


def _ingest(plan: RunPlan, parts: PartsFolder, batch_size: int) -> Callable[[], None]:
    measurer = Measurer(
        plan.model.atlas,
        ablations=plan.ablations,
        heads=plan.heads,
        batch_size=batch_size,
        precision=plan.precision,
        mechanisms=plan.mechanisms,
    )

    def work() -> None:
        if plan.mechanisms.need_top_rows:
            measurer.top_rows = find_top_rows(plan, measurer)
        for unit in plan.units:
            measure_unit(plan, measurer, parts, unit)

    return work


def _plan(
    atlas: Atlas,
    name: str,
    precision: Precision,
    tokens: list[list[int]],
    heads: list[tuple[int, int]],
    mechanisms: Mechanisms,
) -> RunPlan:
    prompts = [Prompt(tuple(row), number) for number, row in enumerate(tokens)]
    partners = [(number + 1) % len(prompts) for number in range(len(prompts))]
    return plan_run(
        LoadedModel(atlas, None, model_record(atlas, name, "random")),
        Source("random", None, None, iter(())),
        PromptSet(prompts, "random", partners),
        ablations=["resample"],
        heads=heads,
        seed=0,
        precision=precision,
        mechanisms=mechanisms,
    )


def _bytes(parts: PartsFolder) -> tuple[int, int]:
    """Bytes of the part files of measurements, and of the mechanisms."""
    effects, mechanisms = 0, 0
    for unit in parts.finished_units():
        files = Manifest.from_json((parts.unit_path(unit) / "manifest.json").read_text()).files
        effects += files["measurements.parquet"].bytes
        mechanisms += sum(files[name].bytes for table in MECHANISM_TABLES if (name := f"{table}.parquet") in files)
    return effects, mechanisms


def _print(shape: str, dtype: str, device: torch.device, figures: list[VariantFigures]) -> None:
    table = Table(title=f"{shape}, {dtype}, {device_name(device)}: one ablation kind", title_justify="left")
    for heading in ("measured and written", "seconds", "more time", "more bytes", "more memory [MB]"):
        table.add_column(heading, justify="left" if heading == "measured and written" else "right")
    for row in figures:
        table.add_row(
            row.variant,
            f"{row.seconds:.2f}",
            f"{row.added_time:+.0%}",
            f"{row.added_bytes:+.0%}",
            f"{row.added_memory_mb:+,.0f}",
        )
    Console().print(table)
