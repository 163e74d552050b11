"""After measuring: effects of random prompts and heads, measured again through TransformerBridge and hooks."""

import glob
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.checks.hooks import HookedRun
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.engine.memory import is_out_of_memory
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.models.in_memory import own_weights
from selfrepair.ingest.models.weights import cast_parameters
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.ingest.terms import on_device
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import ResumableError, again
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import CrosscheckCell
from selfrepair.warehouse.parts.version_0_1 import completed

Effects: TypeAlias = NDArray[np.float32]

Crosscheck: TypeAlias = tuple[int, HeadAblation]
"""The `prompt_id` and the ablated head of the rows that are measured again."""


def choose_crosschecks(plan: RunPlan) -> list[Crosscheck]:
    """The crosschecks of the whole run: random, and the same for every shard."""
    settings, per_prompt = plan.settings, plan.settings.n_head_ablations
    numbers = random.Random(plan.record.run_key).sample(
        range(len(plan.prompts) * per_prompt), plan.record.n_crosschecks
    )
    head_ablations = [HeadAblation(layer, head, way) for layer, head in settings.heads for way in settings.ablations]
    return sorted(
        ((number // per_prompt, head_ablations[number % per_prompt]) for number in numbers),
        key=lambda chosen: (chosen[0], chosen[1].layer, chosen[1].head, chosen[1].ablation),
    )


def crosscheck(
    plan: RunPlan,
    measurer: Measurer,
    chosen: Sequence[Crosscheck],
    stored: Callable[[int, HeadAblation], Effects],
    on_checked: Callable[[], None] = lambda: None,
) -> list[CrosscheckCell]:
    """Measure the chosen rows again in float32 or better and compare every column with what was stored.

    `stored` gives the rows of a crosscheck [pos, effect]. The model is taken over by the bridge: nothing can be measured
    with it afterwards. `error_max` is the largest difference in logits (`ln_scale_ratio` is a plain number).

    Raises ResumableError where the bridge cannot run the model, or memory does not suffice for its float32 copy.
    """
    try:
        with torch.no_grad(), full_precision():
            return _crosscheck(plan, measurer, chosen, stored, on_checked)
    except hooks.FAILURES as error:
        step, with_that = (
            (f" Memory ran out: use {on_device('cpu')}.", " with that") if is_out_of_memory(error) else ("", "")
        )
        raise ResumableError(
            f"the cross-check through TransformerBridge could not run ({hooks.message_of(error)}), so the run is not "
            f"complete.{step}",
            f"The measured rows are kept: {again()}{with_that}, and it only checks, and measures nothing again.",
        ) from error


def _crosscheck(
    plan: RunPlan,
    measurer: Measurer,
    chosen: Sequence[Crosscheck],
    stored: Callable[[int, HeadAblation], Effects],
    on_checked: Callable[[], None],
) -> list[CrosscheckCell]:
    adapter = measurer.adapter
    biases = measurer.value_biases().to(adapter.stream_dtype)
    means = None if measurer.means is None else measurer.means.to(biases)
    if plan.model.shares_weights:
        own_weights(adapter.model)
    cast_parameters(adapter.model, adapter.stream_dtype)
    bridge = hooks.boot(adapter)

    @lru_cache(maxsize=2)  # cells come prompt by prompt: its own run, and its partner's
    def clean(prompt: int, given: tuple[HeadAblation, ...] = ()) -> HookedRun:
        partner = partner_of(prompt, given[0]) if given else None
        given_hooks = [hook for head in given for hook in hooks.replacing(head, replacement(head, partner))]
        tokens = torch.from_numpy(plan.prompts.tokens([prompt])).to(biases.device)
        return hooks.run_clean(bridge, tokens, hooks.needed, given_hooks, plan.prompts.prompts[prompt].foil)

    def partner_of(prompt: int, ablated: HeadAblation) -> HookedRun | None:
        partners = plan.prompts.partners if ablated.ablation == "resample" else None
        return None if partners is None else clean(partners[prompt])

    def replacement(ablated: HeadAblation, partner: HookedRun | None) -> Tensor:
        if ablated.ablation == "resample" and partner is not None:
            return partner.head_values(ablated)
        if ablated.ablation == "mean" and means is not None:
            return (means - biases)[ablated.layer, ablated.head]
        return torch.zeros_like(biases[ablated.layer, ablated.head])  # zero: the constant part has moved out of z

    checked = []
    for prompt, ablated in chosen:
        own = clean(prompt, tuple(HeadAblation(*head, ablated.ablation) for head in plan.settings.given))
        replaced = replacement(ablated, partner_of(prompt, ablated))
        effects = hooks.measure_head_ablation(bridge, own, ablated, replaced)[0].cpu().double().numpy()
        effects = effects[-plan.prompts.positions_of(prompt) :]
        difference = float(np.abs(effects - stored(prompt, ablated)).max())
        checked.append(
            CrosscheckCell(
                prompt, ablated.layer, ablated.head, ablated.ablation, n_rows=len(effects), error_max=difference
            )
        )
        on_checked()
    return checked


def stored_rows(
    con: duckdb.DuckDBPyConnection,
    parts: PartsFolder,
    db: Path,
    unit_of: Callable[[int], Unit],
    prompt: int,
    ablated: HeadAblation,
) -> Effects:
    """The stored rows of one head ablation on one prompt [pos, effect]: from the part file, which any `con` can read, or the
    warehouse once they are loaded.
    """
    file = parts.unit_path(unit_of(prompt).number) / "measurements.parquet"
    # The folder's name is nobody's pattern, and a name such as layer=5 brings no column.
    values = {"prompt": prompt, "layer": ablated.layer, "head": ablated.head, "ablation": ablated.ablation}
    # NULL, or no such column in part files of earlier versions: the model has no post-norms
    effects = ", ".join(EFFECTS).replace("repair_post_norm", "coalesce(repair_post_norm, 0) AS repair_post_norm")
    chosen = f"""
        SELECT {effects} FROM {{table}}
        WHERE prompt_id = $prompt AND layer = $layer AND head = $head AND ablation = $ablation {{run}} ORDER BY pos
    """
    try:
        query = chosen.format(table=completed("measurements", "read_parquet($file, hive_partitioning = false)"), run="")
        columns = con.execute(query, {**values, "file": glob.escape(str(file))}).fetchnumpy()
    except duckdb.IOException:
        if file.exists():
            raise
        with open_reader(db, wait_s=60) as connection:
            query = chosen.format(
                table="measurements", run="AND run_id = (SELECT run_id FROM runs WHERE run_key = $run_key)"
            )
            columns = connection.execute(query, {**values, "run_key": parts.run_key}).fetchnumpy()
    return np.stack([columns[name] for name in EFFECTS], axis=-1)


def loaded_crosschecks(db: Path, plan: RunPlan) -> set[Crosscheck]:
    """The crosschecks that are in the warehouse already."""
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
    return {(prompt, HeadAblation(layer, head, ablation)) for prompt, layer, head, ablation in rows}
