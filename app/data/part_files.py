"""Part files beside a warehouse: units that are measured and not loaded yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import read_file
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest
from selfrepair.warehouse.parts.records import RunRecord, is_run_key

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
    for key in _run_keys(root):
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


def _run_keys(root: Path) -> list[str]:
    try:
        return sorted(path.name for path in root.iterdir() if is_run_key(path.name))
    except OSError:
        return []


def _units(parts: PartsFolder) -> dict[int, UnloadedUnit]:
    units = {}
    for number in parts.finished_units():
        try:
            manifest = Manifest.from_json(read_file(parts.unit_path(number) / MANIFEST).decode())
            rows = manifest.files["measurements.parquet"].rows
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # loaded and removed since it was listed, or corrupt, which the load will report
        units[number] = UnloadedUnit(rows, manifest.measured_at)
    return units
