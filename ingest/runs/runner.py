"""Measure a planned run: its units one by one into part files, then the cross-check; resume where it stopped."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import duckdb
import numpy as np
import torch

from selfrepair.ingest.checks.bridge_comparison import compare_bridge
from selfrepair.ingest.checks.preflight import check_self_repression, preflight
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.mechanisms.top_rows import TopRows, TopRowsSearch, n_top
from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.crosscheck import Crosscheck, choose_crosschecks, crosscheck, known_crosschecks, stored_rows
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.mechanism_columns import mechanism_columns
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.ingest.runs.unit_columns import measurement_columns, prompt_columns, token_columns
from selfrepair.ingest.terms import option
from selfrepair.ingest.text.targets import PredictionTargets
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.parts.activity import measuring
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import MeasuredBy
from selfrepair.warehouse.parts.records import RunRecord
from selfrepair.warehouse.schema import NEXT_TOKEN

MEANS_FILE = "means.npy"
CHECKS = "identity, cross-check (plain forwards)"
TOP_ROWS_FILE = "top_rows.npy"


class Progress(Protocol):
    """Receives the progress of a run."""

    def stage(self, text: str, total: int | None = None, done: int = 0) -> None:
        """A new stage began, of `total` rows, prompts or crosschecks, of which `done` exist already."""

    def advance(self, amount: int) -> None:
        """`amount` more are done; negative when memory ran out and they are measured again."""

    def note(self, text: str) -> None:
        """A message on a line of its own."""


@dataclass(frozen=True)
class RunOutcome:
    """What a call of `measure_run` did: units measured now, units that existed before, and whether it cross-checked.

    `record` is that of the run as it was begun.
    """

    measured: int
    resumed: int
    crosschecked: bool
    record: RunRecord


def measure_run(
    plan: RunPlan,
    parts_root: Path,
    db: Path,
    *,
    shard: Shard,
    batch_size: int | None,
    progress: Progress,
) -> RunOutcome:
    """Measure the units of `shard` that neither the part files nor the warehouse have, then cross-check the shard.

    After a kill, the next call continues after the last finished unit. Raises SelfRepairError, storing nothing of the
    current unit, when the model or a number fails its checks.
    """
    plan = as_begun(plan, parts_root, db, progress.note)
    parts = PartsFolder(parts_root, plan.record.run_key)
    if shard.count > 1:
        check_same_crosschecks(plan, parts)
    mine = [unit for unit in plan.units if shard.has(unit.number)]
    left = what_is_left(plan, parts, db, shard)
    if left.is_nothing:
        return RunOutcome(0, len(mine), crosschecked=False, record=plan.record)
    who = shard.index, shard.count, plan.model.adapter.device_names
    with measuring(parts.path, *who) if parts.exists() else contextlib.nullcontext():
        plan = check_and_start(plan, parts, progress)
    with measuring(parts.path, *who):
        measurer = prepared_measurer(plan, parts, batch_size, progress)
        total = sum(n_rows(plan, unit) for unit in mine)
        progress.stage("measuring", total=total, done=total - sum(n_rows(plan, unit) for unit in left.units))
        measured = sum(measure_unit(plan, measurer, parts, unit, progress.advance) for unit in left.units)
        crosscheck_run(plan, measurer, parts, db, shard, left.cells, progress)
    return RunOutcome(measured, len(mine) - measured, crosschecked=True, record=plan.record)


@dataclass(frozen=True)
class Left:
    """What of a run, or of a shard of it, is to do: units to measure, and all its cells, unless they are cross-checked."""

    units: list[Unit]
    cells: list[Crosscheck]
    is_checked: bool

    @property
    def is_nothing(self) -> bool:
        """Whether all was done before."""
        return not self.units and self.is_checked


@dataclass(frozen=True)
class Done:
    """What is finished of a run whose part files and warehouse are another machine's: units, and cross-checked cells."""

    units: Collection[int] = ()
    cells: Collection[Crosscheck] = ()


def what_is_left(plan: RunPlan, parts: PartsFolder, db: Path, shard: Shard, done: Done = Done()) -> Left:
    """What neither the part files nor the warehouse have, nor is `done`. The record of a run that was begun is brought up to
    date.
    """
    ready = parts.finished_units() | loaded_units(db, plan.record.run_key, resumed_as=plan.record) | {*done.units}
    missing = [unit for unit in plan.units if shard.has(unit.number) and unit.number not in ready]
    chosen = [(prompt, head) for prompt, head in choose_crosschecks(plan) if shard.has(plan.unit_of(prompt).number)]
    is_checked = set(chosen) <= known_crosschecks(parts, db) | {*done.cells}
    if parts.exists():
        parts.start(plan.record)
    return Left(missing, chosen, is_checked)


def check_same_crosschecks(plan: RunPlan, parts: PartsFolder) -> None:
    """Raise SelfRepairError where another shard was told to cross-check another number of cells: whether the run has all of
    them could not be told.
    """
    try:
        begun = parts.run().n_crosschecks
    except SelfRepairError:  # no record yet, or a damaged one, which is told elsewhere
        return
    if begun != plan.record.n_crosschecks:
        before, now = option("crosscheck", begun), option("crosscheck", plan.record.n_crosschecks)
        raise SelfRepairError(
            f"the shards of this run were begun with {before}, and this one has {now}: all need the same. Use {before}; to "
            f"check more cells once the run is loaded, measure the whole run with {now}, not a shard."
        )


def check_and_start(plan: RunPlan, parts: PartsFolder, progress: Progress) -> RunPlan:
    """Check the run's model, then begin its folder, so that nothing is left of a model that is refused; the plan of
    `check_model`.
    """
    progress.stage("preflight")
    plan = check_model(plan)
    parts.start(plan.record)
    return plan


def crosscheck_run(
    plan: RunPlan,
    measurer: Measurer,
    parts: PartsFolder,
    db: Path,
    shard: Shard,
    cells: Sequence[Crosscheck],
    progress: Progress,
) -> None:
    """Measure the cells again and write how they compare with what is stored. The model may be of no further use."""
    progress.stage("cross-check", total=len(cells))
    with duckdb.connect() as con:
        checks = crosscheck(
            plan,
            measurer.means,
            cells,
            lambda prompt, ablated: stored_rows(con, parts, db, plan.unit_of, prompt, ablated),
            progress.advance,
        )
    # Another process of this very run may have loaded it meanwhile, and removed the folder.
    parts.start(plan.record)
    parts.write_crosscheck(shard.index - 1, shard.count, checks)


def prepared_measurer(plan: RunPlan, parts: PartsFolder, batch_size: int | None, progress: Progress) -> Measurer:
    """A measurer with the means and top rows of the whole run, which are measured first where they are missing."""
    measurer = Measurer(
        plan.model.adapter,
        plan.settings,
        batch_size=batch_size or auto_batch_size(plan.model.adapter, plan.prompts.seq_len),
        on_halved=lambda size: progress.note(f"out of memory: continuing with {size} sequences in one forward"),
    )
    if "mean" in plan.settings.ablations:
        measurer.means = _reference_means(plan, measurer, parts, progress)
    if plan.settings.mechanisms.need_top_rows:
        measurer.top_rows = _top_rows(plan, measurer, parts, progress)
    return measurer


def check_model(plan: RunPlan) -> RunPlan:
    """Check a run's model on its longest prompts; the plan, whose record then says what the run is checked by.

    Raises SelfRepairError where the model fails.
    """
    last = [prompt.tokens for prompt in plan.prompts.prompts[-2:]]
    longest = torch.tensor([tokens for tokens in last if len(tokens) == len(last[-1])])
    model = plan.model.adapter, longest, plan.settings.precision, plan.model.record.name
    preflight(*model)
    if plan.settings.mechanisms.self_repression:
        check_self_repression(*model)
    checks = CHECKS + compare_bridge(plan.model.adapter, plan.model.record.name)
    return replace(plan, record=replace(plan.record, checks=checks))


def measure_unit(
    plan: RunPlan,
    measurer: Measurer,
    parts: PartsFolder,
    unit: Unit,
    on_rows: Callable[[int], None] = lambda rows: None,
    called: str | None = None,
) -> bool:
    """Measure the prompts of a unit and write its part files; `on_rows` gets numbers of measured rows. `called` is what they
    call the device, where others on the machine are called the same by torch.

    Returns False where another process, that shares the run in whatever way, has written them meanwhile.
    """
    if parts.has_unit(unit.number):
        on_rows(n_rows(plan, unit))
        return False
    began = time.monotonic()
    measured = measurer.measure(*_inputs(plan, unit), unit.prompt_ids, on_rows)
    seconds, host = time.monotonic() - began, socket.gethostname()
    parts.write_unit(
        unit.number,
        unit.first,
        measurements=measurement_columns(plan, unit, measured),
        tokens=token_columns(plan, unit, measured),
        prompts=prompt_columns(plan, unit),
        identity_error_max=measured.identity_error_max(),
        mechanisms=mechanism_columns(plan, unit, measured),
        document_id=unit.document,
        by=MeasuredBy(host, called or plan.model.adapter.device_names, f"{host}:{os.getpid()}", seconds),
    )
    return True


def _inputs(plan: RunPlan, unit: Unit) -> tuple[PredictionTargets, torch.Tensor | None]:
    """The unit's prompts with their targets and, with resample ablation, their partners' inputs."""
    partners = plan.prompts.partners
    return (
        plan.prompts.targets(unit.prompt_ids),
        None if partners is None else plan.prompts.targets(partners[index] for index in unit.prompt_ids).inputs,
    )


def _top_rows(plan: RunPlan, measurer: Measurer, parts: PartsFolder, progress: Progress) -> TopRows:
    """Each head's top 2 % of the run's rows, kept in a file, so that a resumed run has the same populations."""
    kept = parts.array(TOP_ROWS_FILE)
    if kept is not None:
        first, *others = _top_searched(plan)
        of_all, of_others = np.split(kept, [n_top(first)], axis=1)
        return TopRows(plan.settings.heads, [of_all, of_others] if others and of_others.size else [of_all])
    progress.stage("top rows", total=len(plan.prompts))
    found = find_top_rows(plan, measurer, progress.advance)
    parts.write_array(TOP_ROWS_FILE, np.concatenate(found.codes, axis=1))
    return found


def find_top_rows(
    plan: RunPlan, measurer: Measurer, on_prompts: Callable[[int], None] = lambda prompts: None
) -> TopRows:
    """Each head's top 2 % of the run's rows; `on_prompts` gets numbers of searched prompts."""
    search = TopRowsSearch(plan.settings.heads, *_top_searched(plan))
    for unit in plan.units:
        measurer.find_top_rows(search, *_inputs(plan, unit), unit.prompt_ids)
        on_prompts(unit.count)
    return search.found()


def _top_searched(plan: RunPlan) -> list[int]:
    """Rows of a head in each population that has a top: all, and those after position 0."""
    prompts = plan.prompts
    n_first = sum(len(prompt.tokens) - 1 == prompts.positions_of(index) for index, prompt in enumerate(prompts.prompts))
    return [prompts.n_positions, prompts.n_positions - n_first][: len(plan.settings.top_populations)]


def _reference_means(plan: RunPlan, measurer: Measurer, parts: PartsFolder, progress: Progress) -> torch.Tensor:
    """Z of every head averaged over all positions of the run's prompts, kept in a file, so that a resumed run has the same."""
    kept = parts.array(MEANS_FILE)
    if kept is not None:
        return torch.from_numpy(kept)
    progress.stage("reference means", total=len(plan.prompts))
    sums, n_tokens = torch.zeros(1, dtype=torch.float64), 0
    for unit in plan.units:
        tokens = _reference_tokens(plan, unit)
        sums = sums + measurer.head_value_sums(tokens)
        n_tokens += tokens.numel()
        progress.advance(unit.count)
    means = sums / n_tokens
    parts.write_array(MEANS_FILE, means.numpy())
    return means


def _reference_tokens(plan: RunPlan, unit: Unit) -> torch.Tensor:
    """The tokens that means are taken over: the whole prompts, but without answers at their end."""
    if plan.prompts.logit_of == NEXT_TOKEN:
        return torch.from_numpy(plan.prompts.tokens(unit.prompt_ids))
    return plan.prompts.targets(unit.prompt_ids).inputs


def n_rows(plan: RunPlan, unit: Unit) -> int:
    """Measurements of a unit."""
    return unit.count * plan.prompts.positions_of(unit.first) * plan.settings.n_head_ablations
