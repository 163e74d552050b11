"""After measuring: effects of random prompts and heads, measured again through whole forwards and hooks."""

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfrepair.ingest.checks.reference import FAILURES, CleanPrompt, PlainForwards, eager_attention, message_of
from selfrepair.ingest.conventions import EFFECTS, N_CROSSCHECKS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.engine.memory import BatchSize, is_out_of_memory
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.models.weights import cast_parameters
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.ingest.runs.stored import known_cells, rows_of_cells
from selfrepair.ingest.terms import on_device
from selfrepair.warehouse.errors import ResumableError, again
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import CrosscheckCell

POSITIONS_AT_ONCE = 4096
"""Positions of all rows of a batch, about: more are no faster, and eager attention keeps every weight."""

Effects: TypeAlias = NDArray[np.float32]

Crosscheck: TypeAlias = tuple[int, HeadAblation]
"""The `prompt_id` and the ablated head of the rows that are measured again: a cell."""


def choose_crosschecks(plan: RunPlan) -> list[Crosscheck]:
    """The cells that are measured again in the whole run: random, and the same for every shard. More of them include the
    fewer that a run was given before.
    """
    settings, per_prompt = plan.settings, plan.settings.n_head_ablations
    cells, wanted = range(len(plan.prompts) * per_prompt), plan.record.n_crosschecks
    drawn = random.Random(plan.record.run_key)
    numbers = drawn.sample(cells, min(N_CROSSCHECKS, len(cells)))
    if wanted > len(numbers):
        numbers = list(dict.fromkeys([*numbers, *drawn.sample(cells, wanted)]))
    head_ablations = [HeadAblation(layer, head, way) for layer, head in settings.heads for way in settings.ablations]
    return sorted(
        ((number // per_prompt, head_ablations[number % per_prompt]) for number in numbers[:wanted]),
        key=lambda chosen: (chosen[0], chosen[1].layer, chosen[1].head, chosen[1].ablation),
    )


def by_prompt(chosen: Iterable[Crosscheck]) -> list[tuple[int, list[HeadAblation]]]:
    """The cells of each prompt, which share its clean forward."""
    return [
        (prompt, [ablated for _, ablated in cells])
        for prompt, cells in itertools.groupby(chosen, key=lambda cell: cell[0])
    ]


def crosscheck(
    plan: RunPlan,
    means: Tensor | None,
    chosen: Sequence[Crosscheck],
    stored: Callable[[int, HeadAblation], Effects],
    on_checked: Callable[[int], None] = lambda cells: None,
) -> list[CrosscheckCell]:
    """Measure the chosen cells again in float32 or better and compare every column with what was stored.

    `means` are z of every head averaged over the reference prompts [layer, head, d_head], for mean ablation. `stored` gives
    the rows of a cell [pos, effect], `on_checked` gets numbers of cells. A model in half precision is cast to float32 for
    good. `error_max` is the largest difference in logits (`ln_scale_ratio` is a plain number).

    Raises ResumableError where the model does not run so, or memory does not suffice for its float32 copy.
    """
    try:
        with torch.no_grad(), full_precision(), eager_attention(plan.model.adapter):
            return _crosscheck(plan, means, chosen, stored, on_checked)
    except FAILURES as error:
        raise _could_not_run(error) from error


def _could_not_run(error: Exception) -> ResumableError:
    step, with_that = (
        (f" Memory ran out: use {on_device('cpu')}.", " with that") if is_out_of_memory(error) else ("", "")
    )
    return ResumableError(
        f"the cross-check by whole forwards with hooks could not run ({message_of(error)}), so the run is not "
        f"complete.{step}",
        f"The measured rows are kept: {again()}{with_that}, and it only checks, and measures nothing again.",
    )


def _crosscheck(
    plan: RunPlan,
    means: Tensor | None,
    chosen: Sequence[Crosscheck],
    stored: Callable[[int, HeadAblation], Effects],
    on_checked: Callable[[int], None],
) -> list[CrosscheckCell]:
    adapter, prompts = plan.model.adapter, plan.prompts
    if adapter.layer_dtype != adapter.stream_dtype:
        cast_parameters(adapter.model, adapter.stream_dtype)
        adapter = replace(adapter, layer_dtype=adapter.stream_dtype)
    forwards = PlainForwards(adapter)
    if means is not None:
        means = means.to(adapter.device, adapter.stream_dtype)

    @lru_cache(maxsize=2)  # cells come prompt by prompt: its own forward, and its partner's
    def untouched(prompt: int) -> CleanPrompt:
        return forwards.clean(prompts.targets([prompt]).to(adapter.device))

    def new_values(prompt: int, ablated: HeadAblation) -> Tensor:
        head = ablated.layer, ablated.head
        if ablated.ablation == "resample" and prompts.partners is not None:
            return untouched(prompts.partners[prompt]).head_values(head)
        return means[head] if ablated.ablation == "mean" and means is not None else forwards.value_biases[head]

    checked: list[CrosscheckCell] = []
    for prompt, cells in by_prompt(chosen):
        clean = untouched(prompt)
        if plan.settings.given:  # with a single way to ablate
            given = {head: new_values(prompt, HeadAblation(*head, cells[0].ablation)) for head in plan.settings.given}
            clean = forwards.clean(clean.targets, given)

        def check(
            here: slice, prompt: int = prompt, cells: list[HeadAblation] = cells, clean: CleanPrompt = clean
        ) -> None:
            ablated = [((cell.layer, cell.head), new_values(prompt, cell)) for cell in cells[here]]
            try:
                effects = forwards.measure(clean, ablated).cpu().double().numpy()
            except (MemoryError, RuntimeError) as error:
                if len(ablated) > 1:  # fewer may fit
                    raise
                raise _could_not_run(error) from error
            for cell, again_measured in zip(cells[here], effects, strict=True):
                difference = float(np.abs(again_measured - stored(prompt, cell)).max())
                checked.append(
                    CrosscheckCell(prompt, cell.layer, cell.head, cell.ablation, len(again_measured), difference)
                )
            on_checked(len(ablated))

        rows = BatchSize(max(1, POSITIONS_AT_ONCE // clean.targets.inputs.shape[1]), adapter.device)
        rows.for_each_batch(len(cells), lambda size: size, check)
    return checked


def stored_rows(
    con: duckdb.DuckDBPyConnection,
    parts: PartsFolder,
    db: Path,
    unit_of: Callable[[int], Unit],
    prompt: int,
    ablated: HeadAblation,
) -> Effects:
    """The stored rows of one head ablation on one prompt [pos, effect], as `rows_of_cells` finds them."""
    unit, cell = unit_of(prompt).number, (prompt, ablated.layer, ablated.head, ablated.ablation)
    rows = rows_of_cells(con, parts, db, {unit: [cell]})[unit]
    return np.stack([rows[name].to_numpy() for name in EFFECTS], axis=-1)


def known_crosschecks(parts: PartsFolder, db: Path) -> set[Crosscheck]:
    """The cells that the part files, of whatever shards, or the warehouse have already."""
    return {(prompt, HeadAblation(layer, head, way)) for prompt, layer, head, way in known_cells(parts, db)}
