"""A run that was begun before goes on in the units that it was cut into then; one of version 0.1 under its key, which hashes
neither the model's configuration nor its buffers.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.registry import Cut, cut_of, loaded_cut
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.version_0_1 import NEURON_POPULATIONS


def as_begun(
    plan: RunPlan,
    parts_root: Path,
    db: Path,
    note: Callable[[str], None],
    wait_s: float = 60.0,
    told: Mapping[str, Cut] | None = None,
) -> RunPlan:
    """The plan as the part files or `db` have it already: in the units that the run was cut into, for whatever number of
    workers; `key_of_0_1` settled. It has the key of version 0.1 where that run is there and none of today's key; `note` is then
    told that the model's configuration was not recorded, and neurons are read in the rows that 0.1 read them in. Where those
    are another machine's, `told` says how each run that they have is cut.

    Raises SelfRepairError as `open_reader` does.
    """
    begun: Mapping[str, Cut | None] = _cuts(plan, parts_root, db, wait_s) if told is None else told
    today, earlier = plan.record.run_key, plan.key_of_0_1
    plan = replace(plan, key_of_0_1=None)
    if earlier is not None and earlier in begun and today not in begun:
        note(
            f"continuing run {earlier} of version 0.1, which did not record the model's configuration: this model's is assumed "
            "to be the same."
        )
        record = replace(plan.record, run_key=earlier, model=replace(plan.record.model, config_sha256=None))
        plan = replace(plan, record=record, settings=replace(plan.settings, neuron_populations=NEURON_POPULATIONS))
    cut = begun.get(plan.record.run_key)
    again = plan.cut_as(cut.rows_in_unit) if cut else plan
    return again if cut and cut.n_units == again.record.n_units else plan


def _cuts(plan: RunPlan, parts_root: Path, db: Path, wait_s: float) -> dict[str, Cut | None]:
    """How the run was cut by each of its keys under which it was begun; None where that is not known."""
    keys = [key for key in (plan.record.run_key, plan.key_of_0_1) if key is not None]
    begun: dict[str, Cut | None] = {}
    for parts in (PartsFolder(parts_root, key) for key in keys):
        if parts.exists():
            begun[parts.run_key] = None
            with contextlib.suppress(SelfRepairError):  # its record is lost or damaged
                begun[parts.run_key] = cut_of(parts.run())
    if begun.get(keys[0]) is None and db.exists():
        with open_reader(db, wait_s) as con:
            loaded = {key: loaded_cut(con, key) for key in keys}
        begun |= {key: cut for key, cut in loaded.items() if cut is not None}
    return begun
