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

from selfrepair.ingest.bench.engine import device_name, first_heads, model_of_shape
from selfrepair.ingest.conventions import Precision
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.engine.memory import keep_freed_memory, peak_memory_mb
from selfrepair.ingest.engine.timing import seconds
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.loading import LoadedModel, model_record
from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.devices import choose_device, choose_precision
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.request.selection import parse_batch_size
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.plan import RunPlan, plan_run
from selfrepair.ingest.runs.runner import find_top_rows, measure_unit
from selfrepair.ingest.text.prompts import Prompt, PromptSet
from selfrepair.ingest.text.sources import Source
from selfrepair.warehouse.files import needing_temporary_files, temporary_affixes
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import Manifest
from selfrepair.warehouse.schema import MECHANISM_TABLES

VARIANTS = {
    "effects alone": Mechanisms(),
    "with edges and neurons of the last MLP": Mechanisms(edges=True, neurons="last"),
    "with the logit lens": Mechanisms(logit_lens=True),
    "with self-repression": Mechanisms(self_repression=True),
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


def run(request: BenchRequest) -> None:
    """Measure, print a table, and write JSON where requested."""
    device = choose_device(request.device)
    precision = choose_precision(request.dtype, device)
    figures = compare(model_of_shape(request.shape, precision, device), precision, request)
    _print(request, device, figures)
    text = json.dumps([asdict(variant) for variant in figures], indent=2)
    click.echo(text)
    if request.json_file is not None:
        request.json_file.write_text(text + "\n")


@torch.inference_mode()
def compare(adapter: ModelAdapter, precision: Precision, request: BenchRequest) -> list[VariantFigures]:
    """Every variant on the same random prompts; each finds its own top rows where it needs them."""
    keep_freed_memory()
    size = parse_batch_size(request.batch_size) or auto_batch_size(adapter, request.seq_len)
    shape = request.n_prompts, request.seq_len
    tokens = torch.randint(0, adapter.d_vocab, shape, generator=torch.Generator().manual_seed(0)).tolist()
    heads = first_heads(adapter, request.heads_per_layer)
    taken: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    n_bytes: dict[str, tuple[int, int]] = {}
    memory: dict[str, float] = {}
    with needing_temporary_files():
        temporary = tempfile.TemporaryDirectory(*temporary_affixes())
    with temporary as folder:
        for number in range(request.repeats):
            for variant, mechanisms in VARIANTS.items():
                settings = RunSettings(["resample"], heads, mechanisms=mechanisms, precision=precision)
                plan = _plan(adapter, request.shape, tokens, settings)
                parts = PartsFolder(Path(folder) / str(number), plan.record.run_key)
                before = peak_memory_mb(adapter.device)
                taken[variant] += seconds(_ingest(plan, parts, size), adapter.device, 1)
                memory.setdefault(variant, peak_memory_mb(adapter.device) - before)
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
    measurer = Measurer(plan.model.adapter, plan.settings, batch_size=batch_size)

    def work() -> None:
        if plan.settings.mechanisms.need_top_rows:
            measurer.top_rows = find_top_rows(plan, measurer)
        for unit in plan.units:
            measure_unit(plan, measurer, parts, unit)

    return work


def _plan(adapter: ModelAdapter, name: str, tokens: list[list[int]], settings: RunSettings) -> RunPlan:
    prompts = [Prompt(tuple(row), number) for number, row in enumerate(tokens)]
    partners = [(number + 1) % len(prompts) for number in range(len(prompts))]
    return plan_run(
        LoadedModel(adapter, None, model_record(adapter, name, "random", "random")),
        Source("random", None, None, iter(())),
        PromptSet(prompts, "random", partners),
        settings,
    )


def _bytes(parts: PartsFolder) -> tuple[int, int]:
    """Bytes of the part files of measurements, and of the mechanisms."""
    effects, mechanisms = 0, 0
    for unit in parts.finished_units():
        files = Manifest.from_json((parts.unit_path(unit) / "manifest.json").read_text()).files
        effects += files["measurements.parquet"].bytes
        mechanisms += sum(files[name].bytes for table in MECHANISM_TABLES if (name := f"{table}.parquet") in files)
    return effects, mechanisms


def _print(request: BenchRequest, device: torch.device, figures: list[VariantFigures]) -> None:
    title = f"{request.shape}, {request.dtype}, {device_name(device)}: one ablation type"
    table = Table(title=title, title_justify="left")
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
