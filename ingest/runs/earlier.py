"""A run that was begun before goes on in the units that it was cut into then; one of version 0.1 under its key, which hashes
neither the model's configuration nor its buffers.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.registry import n_units_of
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.version_0_1 import NEURON_POPULATIONS


def as_begun(plan: RunPlan, parts_root: Path, db: Path, note: Callable[[str], None], wait_s: float = 60.0) -> RunPlan:
    """The plan as the part files or `db` have it already: in the units that the run was cut into, for whatever number of
    workers; `key_of_0_1` settled. It has the key of version 0.1 where that run is there and none of today's key; `note` is then
    told that the model's configuration was not recorded, and neurons are read in the rows that 0.1 read them in.

    Raises SelfRepairError as `open_reader` does.
    """
    begun = _n_units(plan, parts_root, db, wait_s)
    today, earlier = plan.record.run_key, plan.key_of_0_1
    plan = replace(plan, key_of_0_1=None)
    if earlier in begun and today not in begun:
        note(
            f"continuing run {earlier} of version 0.1, which did not record the model's configuration: this model's is assumed "
            "to be the same."
        )
        record = replace(plan.record, run_key=earlier, model=replace(plan.record.model, config_sha256=None))
        plan = replace(plan, record=record, settings=replace(plan.settings, neuron_populations=NEURON_POPULATIONS))
    n_units = begun.get(plan.record.run_key)
    again = plan.cut_into(n_units) if n_units else plan
    return again if n_units == again.record.n_units else plan


def _n_units(plan: RunPlan, parts_root: Path, db: Path, wait_s: float) -> dict[str, int | None]:
    """Units of the run by each of its keys under which it was begun; None where they are not known."""
    keys = [key for key in (plan.record.run_key, plan.key_of_0_1) if key is not None]
    begun: dict[str, int | None] = {}
    for parts in (PartsFolder(parts_root, key) for key in keys):
        if parts.exists():
            begun[parts.run_key] = None
            with contextlib.suppress(SelfRepairError):  # its record is lost or damaged
                begun[parts.run_key] = parts.run().n_units
    if begun.get(keys[0]) is None and db.exists():
        with open_reader(db, wait_s) as con:
            loaded = {key: n_units_of(con, key) for key in keys}
        begun |= {key: n_units for key, n_units in loaded.items() if n_units is not None}
    return begun
