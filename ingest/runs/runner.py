"""Measure a planned run: its units one by one into part files, then the cross-check. Resumes where it stopped."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from selfrepair.ingest.checks.preflight import check_self_repression, preflight
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.engine.malloc import keep_freed_memory
from selfrepair.ingest.mechanisms.top_rows import TopRows, TopRowsSearch
from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.columns import measurement_columns, prompt_columns, token_columns
from selfrepair.ingest.runs.crosscheck import choose_cells, crosscheck, loaded_cells, stored_rows
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.mechanism_columns import mechanism_columns
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.ingest.text.targets import Asked
from selfrepair.warehouse import files
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.schema import NEXT_TOKEN

MEANS_FILE = "means.npy"
TOP_ROWS_FILE = "top_rows.npy"


class Progress(Protocol):
    """What a run tells whoever watches it."""

    def stage(self, text: str, total: int | None = None, done: int = 0) -> None:
        """A new stage began; `total` rows or cells are to come, `done` of them were there already."""

    def advance(self, amount: int) -> None:
        """So many more are done; negative when memory ran out and they are measured again."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""


@dataclass(frozen=True)
class RunOutcome:
    """What a call of `measure_run` did: units measured now, units that were there before, and whether it checked."""

    measured: int
    resumed: int
    crosschecked: bool


def measure_run(
    plan: RunPlan,
    parts_root: Path,
    db: Path,
    *,
    shard: Shard,
    batch_size: int | None,
    progress: Progress,
) -> RunOutcome:
    """Measure the units of `shard` that neither the part files nor the warehouse hold, then cross-check the shard.

    Killed anywhere, the next call goes on after the last finished unit. Raises SelfRepairError, storing nothing of the
    unit at hand, when the model or a number is not what it must be.
    """
    keep_freed_memory()
    parts = PartsFolder(parts_root, plan.record.run_key)
    mine = [unit for unit in plan.units if shard.has(unit.number)]
    ready = parts.finished_units() | loaded_units(db, plan.record.run_key)
    missing = [unit for unit in mine if unit.number not in ready]
    chosen = [(prompt, cell) for prompt, cell in choose_cells(plan) if shard.has(_unit_of(plan, prompt).number)]
    checked = parts.crosscheck_path(shard.index - 1, shard.count).exists() or set(chosen) <= loaded_cells(db, plan)
    if parts.exists():
        parts.start(plan.record)
    if not missing and checked:
        return RunOutcome(0, len(mine), crosschecked=False)

    atlas = plan.model.atlas
    progress.stage("preflight")
    preflight(
        atlas,
        torch.from_numpy(plan.prompts.tokens(plan.units[-1].prompt_ids[:2])),
        plan.precision,
        plan.model.record.name,
    )
    if plan.mechanisms.self_repression:
        longest = torch.from_numpy(plan.prompts.tokens([len(plan.prompts) - 1]))
        check_self_repression(atlas, longest, plan.precision, plan.model.record.name)
    parts.start(plan.record)  # only now, so that nothing is left of a model that is refused
    measurer = Measurer(
        atlas,
        ablations=plan.ablations,
        heads=plan.heads,
        batch_size=batch_size or auto_batch_size(atlas, plan.prompts.seq_len),
        precision=plan.precision,
        mechanisms=plan.mechanisms,
        given=plan.given,
        seed=plan.seed,
        on_halved=lambda size: progress.note(f"out of memory: going on with {size} sequences at once"),
    )
    if "mean" in plan.ablations:
        measurer.means = _reference_means(plan, measurer, parts.path / MEANS_FILE, progress)
    if plan.mechanisms.need_top_rows:
        measurer.top_rows = _top_rows(plan, measurer, parts.path / TOP_ROWS_FILE, progress)
    rows = {unit.number: _rows(plan, unit) for unit in mine}
    progress.stage(
        "measuring", total=sum(rows.values()), done=sum(rows.values()) - sum(rows[unit.number] for unit in missing)
    )
    for unit in missing:
        measure_unit(plan, measurer, parts, unit, progress.advance)
    progress.stage("cross-check", total=len(chosen))
    cells = crosscheck(
        plan,
        measurer,
        chosen,
        lambda prompt, cell: stored_rows(parts, db, lambda prompt: _unit_of(plan, prompt), prompt, cell),
        lambda: progress.advance(1),
    )
    parts.start(plan.record)  # another process of this very run may have loaded it meanwhile, and removed the folder
    parts.write_crosscheck(shard.index - 1, shard.count, cells)
    return RunOutcome(len(missing), len(mine) - len(missing), crosschecked=True)


def measure_unit(
    plan: RunPlan,
    measurer: Measurer,
    parts: PartsFolder,
    unit: Unit,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> None:
    """Measure the prompts of a unit and write its part files; `on_rows` hears of measured rows."""
    measured = measurer.measure(*_asked(plan, unit), unit.prompt_ids, on_rows)
    parts.write_unit(
        unit.number,
        unit.first,
        measurements=measurement_columns(unit, measured),
        tokens=token_columns(plan, unit, measured),
        prompts=prompt_columns(plan, unit),
        identity_error_max=measured.identity_error_max(),
        mechanisms=mechanism_columns(plan, unit, measured),
    )


def _asked(plan: RunPlan, unit: Unit) -> tuple[Asked, torch.Tensor | None]:
    """What is asked of the unit's prompts and, where the run resamples, their partners' inputs."""
    partners = plan.prompts.partners
    return (
        plan.prompts.asked(unit.prompt_ids),
        None if partners is None else plan.prompts.asked(partners[index] for index in unit.prompt_ids).inputs,
    )


def _top_rows(plan: RunPlan, measurer: Measurer, path: Path, progress: Progress) -> TopRows:
    """Each head's top 2 % of all the run's rows; kept, so that a resumed run has the same."""
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or cut short: they are found anew
        return TopRows(plan.heads, np.load(path))
    progress.stage("top rows", total=len(plan.prompts))
    found = find_top_rows(plan, measurer, progress.advance)
    _keep_array(path, found.codes)
    return found


def find_top_rows(
    plan: RunPlan, measurer: Measurer, on_prompts: Callable[[int], None] = lambda prompts: None
) -> TopRows:
    """Each head's top 2 % of all the run's rows; `on_prompts` hears of prompts that were looked at."""
    search = TopRowsSearch(plan.heads, plan.prompts.n_positions)
    for unit in plan.units:
        measurer.find_top_rows(search, plan.heads, *_asked(plan, unit), unit.prompt_ids)
        on_prompts(unit.count)
    return search.found()


def _reference_means(plan: RunPlan, measurer: Measurer, path: Path, progress: Progress) -> torch.Tensor:
    """Z of every head averaged over all positions of the run's prompts; kept, so that a resumed run uses the same."""
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or cut short: it is computed anew
        return torch.from_numpy(np.load(path))
    progress.stage("reference means", total=len(plan.prompts))
    sums, n_tokens = torch.zeros(1, dtype=torch.float64), 0
    for unit in plan.units:
        tokens = _reference_tokens(plan, unit)
        sums = sums + measurer.head_value_sums(tokens)
        n_tokens += tokens.numel()
        progress.advance(unit.count)
    means = sums / n_tokens
    _keep_array(path, means.numpy())
    return means


def _reference_tokens(plan: RunPlan, unit: Unit) -> torch.Tensor:
    """What means are taken over: the prompts whole, but without the answers that are asked for at their end."""
    if plan.prompts.logit_of == NEXT_TOKEN:
        return torch.from_numpy(plan.prompts.tokens(unit.prompt_ids))
    return plan.prompts.asked(unit.prompt_ids).inputs


def _keep_array(path: Path, values: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values)
    with files.writing(path.name, path.parent, buffer.tell()):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, buffer.getvalue())


def _rows(plan: RunPlan, unit: Unit) -> int:
    return unit.count * plan.prompts.positions_of(unit.first) * plan.n_cells


def _unit_of(plan: RunPlan, prompt: int) -> Unit:
    return next(unit for unit in plan.units if prompt in unit.prompt_ids)
