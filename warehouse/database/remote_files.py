"""The Parquet files of a publication that lies elsewhere, for DuckDB: it reads what a query needs, through a file system that
knows this publication's files and nothing else.
"""

from __future__ import annotations

import datetime
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from selfrepair.warehouse.database.publication import Entry
from selfrepair.warehouse.database.remote import Bucket, Source, missing_package, source_of
from selfrepair.warehouse.errors import SelfRepairError

_BLOCK = 2**20
_BLOCKS_KEPT = 48


def filesystem(address: str, entries: Mapping[str, Entry]) -> Any:
    """The publication's Parquet files for DuckDB, as `publication://NAME`: an fsspec file system, to be read alone."""
    try:
        from fsspec import AbstractFileSystem
    except ModuleNotFoundError as error:
        raise missing_package(error) from None
    sizes = {name: one.size for name, one in entries.items()}
    source = source_of(address)
    if isinstance(source, Bucket):
        source.expected = {name: one.sha256 for name, one in entries.items()}
    blocks = _Blocks(source, sizes)
    long_ago = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)

    class Files(AbstractFileSystem):  # type: ignore[misc]
        protocol = "publication"
        cachable = False

        def open(self, path: str, mode: str = "rb", **_: Any) -> _File:
            name = self._strip_protocol(path)
            if mode != "rb" or name not in sizes:
                raise FileNotFoundError(f"{path} is no file of {address}")
            return _File(blocks, name)

        def exists(self, path: str, **_: Any) -> bool:
            return self._strip_protocol(path) in sizes

        isfile = exists

        def isdir(self, path: str) -> bool:
            return False

        def size(self, path: str) -> int:
            return sizes[self._strip_protocol(path)]

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return {"name": path, "size": self.size(path), "type": "file"}

        def glob(self, path: str, **_: Any) -> list[str]:
            name = self._strip_protocol(path)
            return [name] if name in sizes else []

        def modified(self, path: str) -> datetime.datetime:
            return long_ago  # a commit's files never change

    return Files()


class _Blocks:
    """Files elsewhere in blocks, the last of which are kept: footers and columns are read in many small pieces."""

    def __init__(self, source: Source, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self._source = source
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, name: str, offset: int, end: int) -> bytes:
        """The bytes of a file from `offset` to `end`; what is missing of them comes by one request."""
        first, last = offset // _BLOCK, (end - 1) // _BLOCK
        with self._lock:
            found = {number: self._kept.get((name, number)) for number in range(first, last + 1)}
            for number in found:
                if (name, number) in self._kept:
                    self._kept.move_to_end((name, number))
        missing = [number for number, block in found.items() if block is None]
        if missing:
            start, stop = missing[0] * _BLOCK, min(self.sizes[name], (missing[-1] + 1) * _BLOCK)
            data = self._source.read(name, start, stop - start)
            if len(data) != stop - start:
                raise SelfRepairError(
                    f"{name} of {self._source.address} is shorter than it was: it has been published anew. Ask again."
                )
            for number in range(missing[0], missing[-1] + 1):
                found[number] = data[number * _BLOCK - start : (number + 1) * _BLOCK - start]
            with self._lock:
                self._kept.update({(name, number): found[number] or b"" for number in missing[-_BLOCKS_KEPT:]})
                while len(self._kept) > _BLOCKS_KEPT:
                    self._kept.popitem(last=False)
        whole = b"".join(found[number] or b"" for number in range(first, last + 1))
        return whole[offset - first * _BLOCK : end - first * _BLOCK]


class _File:
    """An open file. DuckDB's threads share one; each goes to its place before it reads."""

    def __init__(self, blocks: _Blocks, name: str) -> None:
        self.size = blocks.sizes[name]
        self.closed = False
        self._blocks = blocks
        self._name = name
        self._at = threading.local()

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at.offset = offset + (0, self.tell(), self.size)[whence]
        return int(self._at.offset)

    def tell(self) -> int:
        return int(getattr(self._at, "offset", 0))

    def read(self, n_bytes: int = -1) -> bytes:
        offset = self.tell()
        end = self.size if n_bytes < 0 else min(self.size, offset + n_bytes)
        self._at.offset = max(offset, end)
        return self._blocks.read(self._name, offset, end) if end > offset else b""

    def close(self) -> None:
        self.closed = True
