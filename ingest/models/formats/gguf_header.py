"""The header of a GGUF file, read without torch and without the package `gguf`: what it holds, and whether it can be read."""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfrepair.ingest.models.weight_files import NotWholeError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_AXES = 8

DOWNLOAD_AGAIN = "Download the file again, and compare its size with the one that its page names."


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's place in the file: `offset` counts bytes from the start of the data."""

    name: str
    n_values: int
    ggml_type: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """What a file says of its model: single `values` by name, and tensors, whose data begin at byte `data_start`."""

    file: Path
    values: Mapping[str, Any]
    tensors: tuple[GgufTensor, ...]
    data_start: int

    @property
    def architecture(self) -> str:
        """The name that llama.cpp has for it, such as `gemma3`."""
        return str(self.values["general.architecture"])

    def whole_number(self, name: str) -> int | None:
        """A value of the architecture, such as `block_count`; None where it is not there, or one for each layer."""
        value = self.values.get(f"{self.architecture}.{name}")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_gguf(path: Path) -> bool:
    """Whether a path is a file that is meant as GGUF, by its name or its first bytes."""
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    with path.open("rb") as opened:
        return opened.read(len(_MAGIC)) == _MAGIC


def read_header(file: Path) -> GgufHeader:
    """The header of a file. Raises NotWholeError for one that is no GGUF, that ends too early, or that is a part of several."""
    if file.stat().st_size < 24:
        raise NotWholeError(f"it is {file.stat().st_size} bytes long, and no GGUF file", DOWNLOAD_AGAIN)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != _MAGIC:
            raise NotWholeError(
                "it does not begin with the letters GGUF, and is no such file",
                "Give a .gguf file of llama.cpp, or a folder in Hugging Face format.",
            )
        try:
            header = _Reader(data).header(file)
        except (struct.error, UnicodeDecodeError, IndexError, OverflowError, TypeError, ZeroDivisionError) as error:
            raise NotWholeError("it is damaged, or ends within its header", DOWNLOAD_AGAIN) from error
    if "general.architecture" not in header.values:
        raise NotWholeError("its header names no architecture", "Give the file of a language model.")
    n_parts = header.values.get("split.count")
    if isinstance(n_parts, int) and n_parts > 1:
        raise NotWholeError(
            f"it is one of {n_parts} parts of a model",
            "Join them with llama.cpp (llama-gguf-split --merge FIRST.gguf WHOLE.gguf), and give the whole file.",
        )
    n_bytes = file.stat().st_size
    beyond = next((tensor.name for tensor in header.tensors if header.data_start + tensor.offset >= n_bytes), None)
    if beyond is not None:
        raise NotWholeError(f"it is cut off: {beyond} begins after its end", DOWNLOAD_AGAIN)
    return header


class _Reader:
    """Reads on from `at`; what lies beyond the end raises struct.error."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 4

    def header(self, file: Path) -> GgufHeader:
        version, n_tensors, n_values = self._unpack("<I"), self._unpack("<Q"), self._unpack("<Q")
        if version not in _VERSIONS:
            raise NotWholeError(
                f"it is GGUF of version {version}, and versions {' and '.join(map(str, _VERSIONS))} are read",
                "Convert the model with a current llama.cpp.",
            )
        values = {}
        for _ in range(n_values):
            name = self._string()
            value = self._value(self._unpack("<I"))
            if value is not None:
                values[name] = value
        tensors = tuple(self._tensor() for _ in range(n_tensors))
        alignment = values.get("general.alignment", 32)
        return GgufHeader(file, values, tensors, -(-self._at // alignment) * alignment)

    def _tensor(self) -> GgufTensor:
        name, n_axes = self._string(), self._unpack("<I")
        if n_axes > _MOST_AXES:
            raise NotWholeError(f"{name[:80]} has {n_axes} axes, which no tensor has", DOWNLOAD_AGAIN)
        n_values = 1
        for _ in range(n_axes):
            n_values *= self._unpack("<Q")
        return GgufTensor(name, n_values, self._unpack("<I"), self._unpack("<Q"))

    def _value(self, kind: int) -> Any:
        """A single value; None for an array, which is skipped."""
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._unpack(_format(kind))
        of_kind, count = self._unpack("<I"), self._unpack("<Q")
        if of_kind == _STRING:
            for _ in range(count):  # each is as long as it says
                self._skip(self._unpack("<Q"))
        else:
            self._skip(count * struct.calcsize(_format(of_kind)))
        return None

    def _string(self) -> str:
        length = self._unpack("<Q")
        start = self._at
        self._skip(length)
        return self._data[start : self._at].decode()

    def _skip(self, n_bytes: int) -> None:
        if self._at + n_bytes > len(self._data):
            raise struct.error("beyond the end")
        self._at += n_bytes

    def _unpack(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return value


def _format(kind: int) -> str:
    if kind not in _SCALARS:
        raise NotWholeError(f"its header holds a value of the unknown type {kind}", DOWNLOAD_AGAIN)
    return _SCALARS[kind]
