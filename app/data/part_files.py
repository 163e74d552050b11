"""Part files beside a warehouse: units that are measured and not loaded yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.listing import manifests, run_keys
from selfrepair.warehouse.parts.records import RunRecord

_PACE_UNITS = 20


@dataclass(frozen=True)
class UnloadedUnit:
    """A finished unit: its rows of measurements, and when it was finished [UTC, without a zone]."""

    n_rows: int
    measured_at: datetime


@dataclass(frozen=True)
class UnloadedRun:
    """A run and its finished units in part files, by number."""

    record: RunRecord
    units: dict[int, UnloadedUnit]


def unloaded_runs(root: Path) -> tuple[dict[str, UnloadedRun], list[str]]:
    """The runs below `root` by run_key, and an error message for each one that cannot be read. Only reads."""
    found: dict[str, UnloadedRun] = {}
    errors: list[str] = []
    for key in run_keys(root):
        parts = PartsFolder(root, key)
        try:
            if parts.exists():
                found[key] = UnloadedRun(parts.run(), _units(parts))
        except SelfRepairError as error:
            if parts.exists():  # else a load has just removed it
                errors.append(str(error))
        except OSError:
            continue  # a load is removing it
    return found, errors


def pace_s(measured_at: Sequence[datetime]) -> float | None:
    """Seconds per unit, the median of the latest ones; None for fewer than three units."""
    latest = sorted(measured_at)[-_PACE_UNITS:]
    gaps = [(after - before).total_seconds() for before, after in pairwise(latest)]
    return median(gaps) if len(gaps) > 1 else None


def _units(parts: PartsFolder) -> dict[int, UnloadedUnit]:
    """Those whose manifests can be read: a load reports the others."""
    return {
        number: UnloadedUnit(manifest.files["measurements.parquet"].rows, manifest.measured_at)
        for number, manifest in manifests(parts.path)[0].items()
    }
