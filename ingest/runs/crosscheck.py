"""After measuring: random cells of the stored rows computed again the slow way, through TransformerBridge and hooks."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfrepair.ingest.checks import hooks as hook_method
from selfrepair.ingest.checks.hooks import HookedRun, Hooks
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import Cell
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.models.in_memory import own_weights
from selfrepair.ingest.models.weights import cast_parameters
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.folder import CrosscheckCell, PartsFolder

Effects: TypeAlias = NDArray[np.float32]


def choose_cells(plan: RunPlan) -> list[tuple[int, Cell]]:
    """The (prompt, cell) pairs of the whole run that are checked: random, and the same for every shard."""
    chosen = random.Random(plan.record.run_key).sample(
        range(len(plan.prompts) * plan.n_cells), plan.record.n_crosschecks
    )
    cells = [Cell(layer, head, ablation) for layer, head in plan.heads for ablation in plan.ablations]
    return sorted(
        ((index // plan.n_cells, cells[index % plan.n_cells]) for index in chosen),
        key=lambda pair: (pair[0], pair[1].layer, pair[1].head, pair[1].ablation),
    )


def crosscheck(
    plan: RunPlan,
    measurer: Measurer,
    chosen: Sequence[tuple[int, Cell]],
    stored: Callable[[int, Cell], Effects],
    on_cell: Callable[[], None] = lambda: None,
) -> list[CrosscheckCell]:
    """Recompute the chosen cells in float32 or better and compare every column with what was stored.

    `stored` gives a cell's rows [pos, effect]. The model is taken over by the bridge: nothing can be measured with it
    afterwards. The largest difference of a cell is in logits (`ln_scale_ratio` is a plain number).

    Raises SelfRepairError where the bridge cannot run the model, or memory does not suffice for its float32 copy.
    """
    try:
        with torch.no_grad(), full_precision():
            return _crosscheck(plan, measurer, chosen, stored, on_cell)
    except hook_method.FAILURES as error:
        raise SelfRepairError(
            f"the cross-check through TransformerBridge could not run ({hook_method.message_of(error)}). The measured rows "
            "are kept, the run is not complete. If memory ran out, the same command with --device cpu measures nothing "
            "again and checks there."
        ) from error


def _crosscheck(
    plan: RunPlan,
    measurer: Measurer,
    chosen: Sequence[tuple[int, Cell]],
    stored: Callable[[int, Cell], Effects],
    on_cell: Callable[[], None],
) -> list[CrosscheckCell]:
    atlas = measurer.atlas
    biases = measurer.value_biases().to(atlas.stream_dtype)
    means = None if measurer.means is None else measurer.means.to(biases)
    if plan.model.shares_weights:
        own_weights(atlas.model)
    cast_parameters(atlas.model, atlas.stream_dtype)
    bridge = hook_method.boot(atlas)

    def clean(prompt: int, hooks: Hooks = ()) -> HookedRun:
        tokens = torch.from_numpy(plan.prompts.tokens([prompt])).to(biases.device)
        foil = plan.prompts.prompts[prompt].foil
        return hook_method.run_clean(bridge, tokens, hook_method.needed, hooks, foil)

    def replacement(cell: Cell, partner: HookedRun | None) -> Tensor:
        if cell.ablation == "resample" and partner is not None:
            return partner.head_values(cell)
        if cell.ablation == "mean" and means is not None:
            return (means - biases)[cell.layer, cell.head]
        return torch.zeros_like(biases[cell.layer, cell.head])  # zero: the constant part has moved out of z

    checked = []
    for prompt, cell in chosen:
        partners = plan.prompts.partners if cell.ablation == "resample" else None
        partner = None if partners is None else clean(partners[prompt])
        given = [Cell(layer, head, cell.ablation) for layer, head in plan.given]
        hooks = [hook for gone in given for hook in hook_method.replacing(gone, replacement(gone, partner))]
        own = clean(prompt, hooks)
        effects = hook_method.measure_cell(bridge, own, cell, replacement(cell, partner))[0].cpu().double().numpy()
        effects = effects[-plan.prompts.positions_of(prompt) :]
        difference = float(np.abs(effects - stored(prompt, cell)).max())
        checked.append(
            CrosscheckCell(prompt, cell.layer, cell.head, cell.ablation, n_rows=len(effects), error_max=difference)
        )
        on_cell()
    return checked


def stored_rows(parts: PartsFolder, db: Path, unit_of: Callable[[int], Unit], prompt: int, cell: Cell) -> Effects:
    """What was stored of one cell [pos, effect]: in its unit's part file, or in the warehouse once that is loaded."""
    file = parts.unit_path(unit_of(prompt).number) / "measurements.parquet"
    values = {"prompt": prompt, "layer": cell.layer, "head": cell.head, "ablation": cell.ablation}
    chosen = f"""
        SELECT {", ".join(EFFECTS)} FROM {{table}}
        WHERE prompt_id = $prompt AND layer = $layer AND head = $head AND ablation = $ablation {{run}} ORDER BY pos
    """
    try:
        with duckdb.connect() as connection:
            query = chosen.format(table="read_parquet($file)", run="")
            columns = connection.execute(query, {**values, "file": str(file)}).fetchnumpy()
    except duckdb.IOException:
        if file.exists():
            raise
        with open_reader(db, wait_s=60) as connection:
            query = chosen.format(
                table="measurements", run="AND run_id = (SELECT run_id FROM runs WHERE run_key = $run_key)"
            )
            columns = connection.execute(query, {**values, "run_key": parts.run_key}).fetchnumpy()
    return np.stack([columns[name] for name in EFFECTS], axis=-1)


def loaded_cells(db: Path, plan: RunPlan) -> set[tuple[int, Cell]]:
    """The (prompt, cell) pairs whose check is in the warehouse already."""
    if not db.exists():
        return set()
    with open_reader(db, wait_s=60) as connection:
        rows = connection.execute(
            """
            SELECT prompt_id, layer, head, CAST(ablation AS VARCHAR)
            FROM crosschecks JOIN runs USING (run_id) WHERE run_key = $run_key
            """,
            {"run_key": plan.record.run_key},
        ).fetchall()
    return {(prompt, Cell(layer, head, ablation)) for prompt, layer, head, ablation in rows}
