"""Where workers on other machines leave finished units for the driver: a folder that all of them see, or a bucket.

    <address>/.<run_key>.ray/<name>/measurements.parquet   as in a folder of part files
                                   ...
                                   manifest.json           written last: without it there is no unit
    <address>/.sign. ...                                   by which driver and workers see that the place is one and the same

Each delivery has a name of its own: who delivers the same unit twice overwrites nothing. No run has the name of a folder of
deliveries, so that the place may also be one of part files. In a bucket, each warehouse has a folder of its own (`place_of`).
No clock is asked.
"""

import contextlib
import hashlib
import os
import posixpath
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError, again
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.listing import deliveries_of
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest, RunStamp

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_SIGN = "sign"
_SEEN_WITHIN_S = 5.0
"""How long a disk in a network may take to show what another machine wrote [s]."""


class MailboxError(SelfRepairError):
    """The place could not be read or written."""


class LostUnitError(Exception):
    """A delivery that is not there, or not whole."""


def is_bucket(address: str) -> bool:
    """Whether it is an address of fsspec, such as s3://bucket/folder, not the path of a folder."""
    return "://" in address


def place_of(bucket: str, db: Path) -> str:
    """Where in a bucket units for the warehouse `db` are left: those of a run that is measured into two are each one's own."""
    name = f"{socket.gethostname()}:{os.path.realpath(db)}"
    return f"{bucket.rstrip('/')}/selfrepair-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


class Mailbox:
    """The mailbox at an address of fsspec, or in a folder by its absolute path. Raises SelfRepairError for anything else."""

    def __init__(self, address: str) -> None:
        from fsspec.core import url_to_fs

        self.address = address
        kind = address.partition("://")[0] if is_bucket(address) else "file"
        try:
            self._files: AbstractFileSystem
            self._files, self._root = url_to_fs(address, **({"auto_mkdir": True} if kind in ("file", "local") else {}))
        except ImportError as error:
            raise SelfRepairError(
                f"{address}: {error}. Install that package on every node, beside selfrepair."
            ) from error
        except Exception as error:  # of whatever package has the protocol
            raise SelfRepairError(f"{address} is no address of a folder or bucket ({_said(error)}).") from error

    def sign(self) -> tuple[str, str]:
        """Write a file that others must see: its name and what it says. Raises MailboxError where that fails."""
        name, text = files.temporary_name(_SIGN), secrets.token_hex(16)
        with self._used("write to"):
            self._files.pipe_file(self._path(name), text.encode())
        return name, text

    def sees(self, sign: tuple[str, str]) -> bool:
        """Whether what another machine wrote is here. Raises MailboxError where the place cannot be read."""
        name, text = sign
        by = time.monotonic() + _SEEN_WITHIN_S
        while True:
            with contextlib.suppress(FileNotFoundError), self._used("read"):
                return bool(self._files.cat_file(self._path(name)) == text.encode())
            if time.monotonic() > by:
                return False
            time.sleep(0.2)
            self._files.invalidate_cache()

    def sweep_signs(self) -> None:
        """Remove those that killed processes of this machine left."""
        with contextlib.suppress(MailboxError):
            for name in self._names():
                if name.startswith(f".{_SIGN}.") and files.is_left_over(name):
                    self.remove(name)

    def deliver(self, parts: PartsFolder, unit: int) -> str:
        """Put a finished unit here; the name of the delivery. Raises MailboxError where that fails."""
        folder = parts.unit_path(unit)
        name = f"{folder.name}.{secrets.token_hex(6)}"
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
        with self._used("write to"):
            for file in (*names, MANIFEST):
                self._files.pipe_file(
                    self._path(deliveries_of(parts.run_key), name, file), files.read_file(folder / file)
                )
        return name

    def fetch(self, name: str, parts: PartsFolder, stamp: RunStamp) -> int:
        """Bring a delivery into a folder of part files; its unit's number. One that is there already stays.

        Raises LostUnitError where it is not there, not whole, or of something else than `stamp`; MailboxError where the place
        cannot be read.
        """

        def read(file: str) -> bytes:
            with self._used("read"):
                found: bytes = self._files.cat_file(self._path(deliveries_of(parts.run_key), name, file))
                return found

        try:
            text = read(MANIFEST)
            manifest = Manifest.from_json(text.decode())
            contents = {file: read(file) for file in manifest.files if "/" not in file}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LostUnitError(f"{name} did not arrive whole at {self.address}") from error
        of_other = "is of nothing" if manifest.run is None else manifest.run.difference(stamp)
        if of_other is not None:
            raise LostUnitError(f"{name} at {self.address} {of_other}")
        for file, said in manifest.files.items():
            if hashlib.sha256(contents.get(file, b"")).hexdigest() != said.sha256:
                raise LostUnitError(
                    f"{name} did not arrive whole at {self.address}: {file} is not as its manifest says"
                )
        placed = {file: memoryview(data) for file, data in contents.items()}
        parts.place_unit(manifest.unit, {**placed, MANIFEST: memoryview(text)})
        self.remove(deliveries_of(parts.run_key), name)
        return manifest.unit

    def deliveries(self, run_key: str) -> list[str]:
        """Names of what was delivered of a run whole, as far as their manifests are here."""
        root = self._path(deliveries_of(run_key))
        with self._used("read"):
            self._files.invalidate_cache()
            try:
                found = self._files.find(root)
            except FileNotFoundError:
                return []
        return sorted(posixpath.basename(posixpath.dirname(path)) for path in found if path.endswith(f"/{MANIFEST}"))

    def runs(self) -> list[str]:
        """Keys of the runs of which something was delivered and not fetched."""
        keys = {name: name.removeprefix(".").removesuffix(".ray") for name in self._names()}
        return [key for name, key in keys.items() if name == deliveries_of(key)]

    def _names(self) -> list[str]:
        with self._used("read"):
            self._files.invalidate_cache()
            try:
                return sorted(posixpath.basename(path.rstrip("/")) for path in self._files.ls(self._root, detail=False))
            except FileNotFoundError:
                return []

    def remove_run(self, run_key: str) -> None:
        """Remove what was delivered of a run, as `remove`."""
        self.remove(deliveries_of(run_key))

    def remove(self, *names: str) -> None:
        """Remove what is below a name, as far as that can be done."""
        with contextlib.suppress(Exception):  # of whatever package has the protocol; it is in nobody's way
            self._files.rm(self._path(*names), recursive=True)

    def clean(self) -> None:
        """Remove the folder, where it is one and empty."""
        if not is_bucket(self.address):
            files.remove_empty(Path(self.address))

    def _path(self, *names: str) -> str:
        return posixpath.join(self._root, *names)

    @contextlib.contextmanager
    def _used(self, verb: str) -> Iterator[None]:
        """What goes wrong as MailboxError, but for what is not there."""
        try:
            yield
        except FileNotFoundError as error:
            if verb == "read":
                raise
            raise self._error(verb, error) from error
        except Exception as error:  # of whatever package has the protocol
            raise self._error(verb, error) from error

    def _error(self, verb: str, error: Exception) -> MailboxError:
        return MailboxError(
            f"cannot {verb} {self.address} ({_said(error)}). Every node and this machine need to write there, with credentials "
            f"where it asks for some; then {again()}."
        )


def _said(error: Any) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' + text[:300] if text else ''}"
