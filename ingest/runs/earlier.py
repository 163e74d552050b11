"""Runs that version 0.1 began: they keep their keys, which hash neither the model's configuration nor its buffers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.load.registry import run_id_of
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.version_0_1 import NEURON_POPULATIONS


def under_its_key(
    plan: RunPlan, parts_root: Path, db: Path, note: Callable[[str], None], wait_s: float = 60.0
) -> RunPlan:
    """The plan under the key of version 0.1 where the part files or `db` have that run and none of today's key; `note` is
    then told that the model's configuration was not recorded, and neurons are read in the rows that 0.1 read them in. Any other
    plan is returned as it is, `key_of_0_1` settled.

    Raises SelfRepairError as `open_reader` does.
    """
    if plan.key_of_0_1 is None:
        return plan
    today, earlier = plan.record.run_key, plan.key_of_0_1
    begun = {key for key in (today, earlier) if PartsFolder(parts_root, key).exists()}
    if today not in begun and db.exists():
        with open_reader(db, wait_s) as con:
            begun |= {key for key in (today, earlier) if run_id_of(con, key) is not None}
    if begun != {earlier}:
        return replace(plan, key_of_0_1=None)
    note(
        f"continuing run {earlier} of version 0.1, which did not record the model's configuration: this model's is assumed "
        "to be the same."
    )
    record = replace(plan.record, run_key=earlier, model=replace(plan.record.model, config_sha256=None))
    settings = replace(plan.settings, neuron_populations=NEURON_POPULATIONS)
    return replace(plan, record=record, settings=settings, key_of_0_1=None)
