"""The exchange format between measuring and loading: a folder for each run, in it a folder for each finished unit.

    <root>/<run_key>/run.json                           what the run is (`RunRecord`)
    <root>/<run_key>/unit-00000/measurements.parquet    the tables' columns without run_id
                                tokens.parquet
                                prompts.parquet
                                ...                     tables of the mechanisms that were measured, if any
                                manifest.json           rows, sizes and SHA-256 of all these (`Manifest`)
    <root>/<run_key>/crosscheck-0-of-2.json             what shard 0 of 2 computed the slow way
    <root>/<run_key>/measuring.lock                     whether it is being measured (`activity`)
    <root>/<run_key>/worker-1-of-2.4711-c0ffee00.json   who measures it, or did, and why he ended (`workers`)

A unit appears by one rename, so it is there whole or not at all, and any number of processes may write into one root.
"""

import contextlib
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError, again, in_words, with_dtype
from selfrepair.warehouse.parts import listing
from selfrepair.warehouse.parts.arrow import Columns, parquet_bytes, part_table
from selfrepair.warehouse.parts.listing import CROSSCHECK, RUN, UNIT
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest, MeasuredBy, PartFile, RunStamp, sealed
from selfrepair.warehouse.parts.records import CrosscheckCell, RunRecord, is_run_key
from selfrepair.warehouse.parts.version_0_1 import is_of_0_1

_T = TypeVar("_T")
_FIXED = ("n_prompts", "n_units", "n_measurements", "ablations", "given_heads", "selected_heads", "mechanisms")


class PartsFolder:
    """The part files of one run below `root`. Nothing is written before `start` or a `write_` method is called."""

    def __init__(self, root: Path, run_key: str) -> None:
        if not is_run_key(run_key):
            raise SelfRepairError(f"run key {run_key!r} cannot name a folder; use letters, digits, '_', '-' and '.'")
        self.root = root
        self.run_key = run_key
        self.path = root / run_key
        self._stamp: RunStamp | None = None

    def start(self, run: RunRecord) -> RunRecord:
        """Write `run.json` and sweep what killed writers left; returns the record that now counts.

        A run that was begun before keeps its `started_at`, and its `checks` and `run_name` unless `run` has some. Raises
        SelfRepairError when the folder holds a run of the same key that is cut into other units or measures other heads, or
        cannot be written.
        """
        if run.run_key != self.run_key:
            raise SelfRepairError(f"run {run.run_key} cannot start in the folder of run {self.run_key}")
        with files.writing(f"run {self.run_key}", self.root, len(run.to_json())):
            started = _again_if_removed(lambda: self._start(run))
        self._stamp = started.stamp()
        return started

    def run(self) -> RunRecord:
        """The record in `run.json`; SelfRepairError when it is missing or unreadable."""
        return listing.record(self.path)

    def exists(self) -> bool:
        """True when there is anything of this run: its record, a finished unit or a cross-check."""
        return self.has_record() or bool(self.finished_units()) or bool(self.finished_crosschecks())

    def has_record(self) -> bool:
        """True when `run.json` is here."""
        return (self.path / RUN).exists()

    def finished_units(self) -> set[int]:
        """Numbers of the units that are here with their manifest; empty when the folder does not exist."""
        if not self.path.is_dir():
            return set()
        found = ((path, UNIT.fullmatch(path.name)) for path in self.path.iterdir())
        return {int(match[1]) for path, match in found if match and (path / MANIFEST).is_file()}

    def has_unit(self, unit: int) -> bool:
        """True when that unit is here with its manifest."""
        return (self.unit_path(unit) / MANIFEST).is_file()

    def stamps(self) -> list[RunStamp]:
        """The stamps of the finished units, each once; of a damaged unit, or one of an earlier version, none."""
        found: dict[RunStamp, None] = {}
        for unit in sorted(self.finished_units()):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                stamp = Manifest.from_json(files.read_file(self.unit_path(unit) / MANIFEST).decode()).run
                found |= {} if stamp is None else {stamp: None}
        return list(found)

    def finished_crosschecks(self) -> list[Path]:
        """The cross-check files that are here, by name."""
        if not self.path.is_dir():
            return []
        return sorted(path for path in self.path.iterdir() if CROSSCHECK.fullmatch(path.name))

    def unit_path(self, unit: int) -> Path:
        """The folder of a finished unit."""
        return self.path / f"unit-{unit:05d}"

    def crosscheck_path(self, shard: int, n_shards: int) -> Path:
        """The cross-check file of one shard."""
        return self.path / f"crosscheck-{shard}-of-{n_shards}.json"

    def write_unit(
        self,
        unit: int,
        first_prompt: int,
        measurements: Columns,
        tokens: Columns,
        prompts: Columns,
        identity_error_max: float,
        mechanisms: Mapping[str, Columns] | None = None,
        by: MeasuredBy | None = None,
        document_id: int | None = None,
    ) -> Manifest:
        """Write one finished unit; when it returns, the disk has it and `finished_units` lists it.

        Each table is a `pyarrow.Table` or a dict of numpy arrays with the warehouse table's columns but `run_id`.
        `ablation` holds names, or codes into `schema.ABLATIONS`. Rows of `measurements` come ordered by layer, head,
        ablation, prompt_id, pos; effects are rounded to 1e-4 here. `mechanisms` holds further tables by name, of
        `MECHANISM_TABLES`, `document_id` the document of which the unit is a part. A unit that is here already stays as it is.

        Raises SelfRepairError, and leaves nothing half-written, for missing, unknown or mistyped columns, a number that
        is not finite, prompts that are not `first_prompt`, `first_prompt + 1`, ..., a full disk.
        """
        tables = {
            name: part_table(name, columns)
            for name, columns in (
                ("prompts", prompts),
                ("tokens", tokens),
                ("measurements", measurements),
                *(mechanisms or {}).items(),
            )
        }
        n_prompts = tables["prompts"].num_rows
        ids: Sequence[int] = tables["prompts"].column("prompt_id").to_pylist()
        if not ids or ids != list(range(first_prompt, first_prompt + n_prompts)):
            raise SelfRepairError(
                f"unit {unit} of run {self.run_key}: its prompts are not numbered from {first_prompt}"
            )
        contents = {f"{name}.parquet": parquet_bytes(table) for name, table in tables.items()}
        manifest = Manifest(
            unit=unit,
            first_prompt=first_prompt,
            n_prompts=n_prompts,
            identity_error_max=_finite(identity_error_max, f"identity_error_max of unit {unit}"),
            measured_at=datetime.now(UTC).replace(tzinfo=None),
            files={f"{name}.parquet": _part_file(table, contents[f"{name}.parquet"]) for name, table in tables.items()},
            run=self._stamp,
            by=by,
            document_id=document_id,
        )
        self.place_unit(unit, {**contents, MANIFEST: memoryview(manifest.to_json().encode())})
        return manifest

    def place_unit(self, unit: int, contents: Mapping[str, memoryview]) -> None:
        """Have a unit of these files, its manifest among them, appear whole, as `write_unit` does; one that is here stays."""
        n_bytes = sum(len(data) for data in contents.values())
        with files.writing(f"unit {unit} of run {self.run_key}", self.path, n_bytes):
            _again_if_removed(lambda: self._place(unit, contents))

    def write_crosscheck(self, shard: int, n_shards: int, cells: Sequence[CrosscheckCell]) -> None:
        """Write what `shard` of `n_shards` computed the slow way, all at once.

        Raises SelfRepairError when an error is not finite or the folder cannot be written.
        """
        for cell in cells:
            _finite(cell.error_max, f"cross-check of prompt {cell.prompt_id}, L{cell.layer}H{cell.head}")
        stamp = self._stamp and asdict(self._stamp)
        data = sealed({"run": stamp, "cells": [asdict(cell) for cell in cells]}).encode()
        path = self.crosscheck_path(shard, n_shards)

        def place() -> None:
            self.path.mkdir(parents=True, exist_ok=True)
            files.replace_file(path, data)

        with files.writing(path.name, self.path, len(data)):
            _again_if_removed(place)

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Keep an array that the whole run shares as `name`, all at once; a run that goes on later finds it in `array`.

        Raises SelfRepairError when the folder cannot be written.
        """
        buffer = io.BytesIO()
        np.save(buffer, values)
        buffer.write(self._seal(buffer.getvalue()))

        def place() -> None:
            self.path.mkdir(parents=True, exist_ok=True)
            files.replace_file(self.path / name, buffer.getvalue())

        with files.writing(name, self.path, buffer.tell()):
            _again_if_removed(place)

    def array(self, name: str) -> NDArray[Any] | None:
        """What `write_array` kept as `name`; None when it is missing, incomplete, altered or another run's."""
        try:
            data = files.read_file(self.path / name)
            file = io.BytesIO(data)
            values: NDArray[Any] = np.load(file)
        except (OSError, ValueError, EOFError):
            return None
        length = file.tell()
        of_0_1 = length == len(data)
        return values if of_0_1 or data[length:] == self._seal(data[:length]) else None

    def _seal(self, data: bytes) -> bytes:
        """What follows an array in its file: it ties the array to the run."""
        return hashlib.sha256(self.run_key.encode() + data).digest()

    def remove(self, loaded: Sequence[Path], *, is_whole: bool) -> None:
        """Remove units and cross-checks that have been loaded; when the run is whole, everything else of it too."""
        for path in loaded:
            files.remove(path)
        if is_whole:
            files.remove(self.path)
            deliveries = self.root / listing.DELIVERIES
            files.remove(deliveries / listing.deliveries_of(self.run_key))  # they would bring a removed run back
            files.remove_empty(deliveries)

    def _start(self, run: RunRecord) -> RunRecord:
        self.path.mkdir(parents=True, exist_ok=True)
        files.sweep(self.path)
        try:
            first = self.run()
        except SelfRepairError as error:
            if self.has_record():
                raise SelfRepairError(f"{error} To measure again, remove {self.path} first.") from error
            self._check_units(run)
        else:
            self._check_same(first, run)
            run = replace(
                run,
                started_at=first.started_at,
                checks=run.checks or first.checks,
                run_name=run.run_name or first.run_name,
            )
        files.replace_file(self.path / RUN, run.to_json().encode())
        return run

    def _place(self, unit: int, contents: Mapping[str, memoryview]) -> None:
        final = self.unit_path(unit)
        temporary = self.path / files.temporary_name(final.name)
        try:
            temporary.mkdir(parents=True)
            for name, data in contents.items():
                files.write_file(temporary / name, data)
            files.sync_folder(temporary)
            if not (final / MANIFEST).is_file():
                files.remove(final)  # a link that leads nowhere, too
            if not final.is_dir():
                temporary.rename(final)
            files.sync_folder(self.path)
        except OSError:
            # Another process may have finished the same unit between the look and the rename.
            if unit not in self.finished_units():
                raise
        finally:
            files.remove(temporary)

    def _check_units(self, run: RunRecord) -> None:
        """Where the record is lost, the units must be those of `run`: of another cut, they would pass for units of this one."""
        stamps = self.stamps()
        if stamps and run.stamp() not in stamps:
            that_number = in_words("Give that number again (--shard i/N, --devices), put", "Put")
            raise SelfRepairError(
                f"{self.path} has lost its {RUN}, and its units are not those of this command: the run was begun for another "
                f"number of workers or shards, or in another way. {that_number} the "
                f"{RUN} back, or delete that folder to measure its units again."
            )

    def _check_same(self, first: RunRecord, run: RunRecord) -> None:
        if first.rows_in_unit != run.rows_in_unit:  # since a run that was begun is planned in its own units
            raise SelfRepairError(
                f"run {self.run_key} is in other units in {self.path}: another process began it, for another number of "
                f"workers or shards, while this one loaded the model. Wait until it measures, and {again()}: it goes on in "
                "those units."
            )
        of_0_1 = is_of_0_1(first.software.get("selfrepair", ""))
        for name in _FIXED if of_0_1 else (*_FIXED, "tokenizer_sha256"):
            old, new = getattr(first, name), getattr(run, name)
            if old != new:
                raise SelfRepairError(
                    f"run {self.run_key} was started in {self.path} with {name} = {_short(old)}, but now it is requested with "
                    f"{_short(new)}. Finish it with the first, or delete that folder and start again."
                )
        check_version(self.run_key, first.software, run.software)


def check_version(run_key: str, first: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise SelfRepairError where a run that one version of the package began would go on with another.

    A run of version 0.1 may: its numbers are today's.
    """
    before, version = first.get("selfrepair"), now.get("selfrepair")
    if before is not None and before != version and not is_of_0_1(before):
        raise SelfRepairError(
            f"run {run_key} was begun by selfrepair {before}, and these parts are of selfrepair {version}: the rows of two "
            f"versions are not mixed. Finish it with the first (pip install selfrepair=={before}), or remove the run "
            "(selfrepair remove) and its folder of part files, and measure it again."
        )


def _again_if_removed(write: Callable[[], _T]) -> _T:
    """Write once more when the run's folder goes away meanwhile: another process of the very same run has just finished it,
    loaded it and cleaned up.
    """
    try:
        return write()
    except FileNotFoundError:
        return write()


def _part_file(table: pa.Table, data: memoryview) -> PartFile:
    return PartFile(rows=table.num_rows, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _finite(value: float, what: str) -> float:
    value = float(value)
    if not abs(value) < float("inf"):
        raise SelfRepairError(f"{what} is {value}; the measurement overflowed. Measure with {with_dtype('float32')}.")
    return value


def _short(value: Any) -> str:
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
