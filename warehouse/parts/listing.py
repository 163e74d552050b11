"""What lies in a folder of part files, read without the packages that write and load them: quick, and nothing is changed."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest, unsealed
from selfrepair.warehouse.parts.records import RunRecord, is_run_key

RUN = "run.json"
UNIT = re.compile(r"unit-(\d{5,})")
CROSSCHECK = re.compile(r"crosscheck-(\d+)-of-(\d+)\.json")

DELIVERIES = ".ray"
"""Within a folder of part files, where workers on other machines leave units (`ingest.fleet.mailbox`): no name of a run."""

_AT_ONCE = 100
"""Files that a thread reads in one go."""


def deliveries_of(run_key: str) -> str:
    """The name of a run's folder where such units are left: no run's own."""
    return f".{run_key}.ray"


def run_keys(root: Path) -> list[str]:
    """Names below `root` that may be those of runs; empty where there is no such folder."""
    try:
        return sorted(entry.name for entry in os.scandir(root) if is_run_key(entry.name) and entry.is_dir())
    except OSError:
        return []


def record(folder: Path) -> RunRecord:
    """The record in a run's folder; SelfRepairError when it is missing or unreadable."""
    path = folder / RUN
    try:
        return RunRecord.from_json(files.read_file(path).decode())
    except (OSError, UnicodeDecodeError) as error:
        raise SelfRepairError(
            f"{path} cannot be read ({error}), so it is unknown which run these parts belong to. "
            "Run the ingest command that made them again: it rewrites the file and keeps finished units."
        ) from error
    except SelfRepairError as error:
        raise SelfRepairError(f"{path}: {error}") from error


def manifests(folder: Path) -> tuple[dict[int, Manifest], list[str]]:
    """What is finished in a run's folder: the manifests by unit, and a line for each that cannot be read or belongs elsewhere.
    A unit that goes away meanwhile, as a load removes it, is in neither.
    """
    found: dict[int, Manifest] = {}
    damaged = []
    units = {f"{folder}/{name}/{MANIFEST}": int(match[1]) for name in _names(folder) if (match := UNIT.fullmatch(name))}
    for path, read in _read(list(units)):
        try:
            if isinstance(read, OSError):
                raise read
            manifest = Manifest.from_json(read.decode())
            if manifest.unit != units[path] or (manifest.run and manifest.run.run_key != folder.name):
                raise ValueError(f"it is of unit {manifest.unit} of run {manifest.run and manifest.run.run_key}")
            manifest.files["measurements.parquet"].rows.__index__()
            found[manifest.unit] = manifest
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if os.path.lexists(path):
                damaged.append(f"{path} cannot be read as a manifest: {error}")
    return found, damaged


def crosschecked(folder: Path) -> set[tuple[int, int, int, str]]:
    """The cells in the cross-check files of a run's folder: prompt, layer, head, ablation. A damaged file has none; one of
    version 0.1 is a plain list.
    """
    found = set()
    for name in _names(folder):
        if CROSSCHECK.fullmatch(name):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                text = files.read_file(folder / name).decode()
                for cell in json.loads(text) if text.startswith("[") else unsealed(text)["cells"]:
                    found.add((cell["prompt_id"], cell["layer"], cell["head"], cell["ablation"]))
    return found


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return []


def _read(paths: list[str]) -> Iterator[tuple[str, bytes | OSError]]:
    """Each file, or why it cannot be read; several at once, since those of a network's disk come one in a millisecond."""

    def read(some: list[str]) -> list[bytes | OSError]:
        return [_bytes(path) for path in some]

    chunks = [paths[i : i + _AT_ONCE] for i in range(0, len(paths), _AT_ONCE)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        for chunk, contents in zip(chunks, pool.map(read, chunks), strict=True):
            yield from zip(chunk, contents, strict=True)


def _bytes(path: str) -> bytes | OSError:
    try:
        return files.read_file(path)
    except OSError as error:
        return error
