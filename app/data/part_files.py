"""Part files beside a warehouse: units that are measured and not loaded yet."""

from dataclasses import dataclass
from pathlib import Path

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.listing import manifests, run_keys
from selfrepair.warehouse.parts.records import RunRecord
from selfrepair.warehouse.parts.status import FinishedUnit, finished_unit


@dataclass(frozen=True)
class UnloadedRun:
    """A run and its finished units in part files, by number."""

    record: RunRecord
    units: dict[int, FinishedUnit]


def unloaded_runs(root: Path) -> tuple[dict[str, UnloadedRun], list[str]]:
    """The runs below `root` by run_key, and an error message for each one that cannot be read. Only reads: units whose
    manifests cannot be read are left out, and a load reports them.
    """
    found: dict[str, UnloadedRun] = {}
    errors: list[str] = []
    for key in run_keys(root):
        parts = PartsFolder(root, key)
        try:
            if parts.exists():
                units = {number: finished_unit(manifest) for number, manifest in manifests(parts.path)[0].items()}
                found[key] = UnloadedRun(parts.run(), units)
        except SelfRepairError as error:
            if parts.exists():  # else a load has just removed it
                errors.append(str(error))
        except OSError:
            continue  # a load is removing it
    return found, errors
