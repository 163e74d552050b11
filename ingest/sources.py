"""Open a dataset by name or file, and yield its documents in order.

`stdlib` is the text on every machine; a path is a .txt, .jsonl or .parquet file; anything else is a dataset of the
Hugging Face hub, streamed.
"""

import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfrepair.ingest import stdlib
from selfrepair.ingest.documents import Document, TokenRow
from selfrepair.ingest.hub import offline_reason
from selfrepair.warehouse.errors import SelfRepairError

FILE_TYPES = (".txt", ".jsonl", ".parquet")
STDLIB = "stdlib"


@dataclass(frozen=True)
class Source:
    """An opened dataset; `documents` can be walked once."""

    name: str
    split: str | None
    revision: str | None
    documents: Iterator[Document | TokenRow]


def open_source(name: str, *, split: str | None = None, revision: str | None = None) -> Source:
    """The dataset `name`.

    Raises SelfRepairError when there is no such file or hub dataset, or when a row holds neither `text` nor `tokens`.
    """
    if name == STDLIB:
        split = split or "heldout"
        return Source(STDLIB, split, f"Python {platform.python_version()}", stdlib.pieces(split))
    path = Path(name)
    if path.suffix in FILE_TYPES or path.exists():
        return Source(path.name, None, None, _from_file(path))
    split = split or "train"
    return Source(name, split, revision, _from_hub(name, split, revision))


def _from_file(path: Path) -> Iterator[Document | TokenRow]:
    if path.suffix not in FILE_TYPES:
        raise SelfRepairError(
            f"dataset file {path} is not one of {', '.join(FILE_TYPES)}. Convert it, one row a document."
        )
    if not path.is_file():
        raise SelfRepairError(
            f"dataset file {path} does not exist. Give a {', '.join(FILE_TYPES)} file, or `{STDLIB}`."
        )
    try:
        if path.suffix == ".txt":
            yield Document(0, path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            yield from _rows(path, _json_lines(path))
        else:
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                yield from _rows(path, (row for batch in file.iter_batches() for row in batch.to_pylist()))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise SelfRepairError(f"dataset file {path} cannot be read: {error}. Write it anew as UTF-8.") from error


def _json_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise SelfRepairError(
                        f"{path}, line {number} is not JSON ({error}). "
                        'Write one object a line, such as {"text": "..."}.'
                    ) from error


def _rows(origin: Path | str, rows: Iterable[Any]) -> Iterator[Document | TokenRow]:
    for number, row in enumerate(rows):
        if isinstance(row, dict) and isinstance(row.get("text"), str):
            yield Document(number, row["text"].encode("utf-8", "replace").decode())
        elif isinstance(row, dict) and isinstance(row.get("tokens"), list):
            tokens = row["tokens"]
            if not all(isinstance(token, int) and not isinstance(token, bool) for token in tokens):
                raise SelfRepairError(f"{origin}, row {number}: `tokens` must be a list of whole numbers.")
            yield TokenRow(number, tuple(tokens))
        else:
            found = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
            raise SelfRepairError(
                f"{origin}, row {number} has neither `text` (a string) nor `tokens` (a list of token ids); it has {found}. "
                "Rename the column."
            )


def _from_hub(name: str, split: str, revision: str | None) -> Iterator[Document | TokenRow]:
    import datasets

    offline = offline_reason()
    if offline is not None:
        datasets.config.HF_HUB_OFFLINE = True  # it copied the hub client's own when it was imported
    try:
        yield from _rows(name, datasets.load_dataset(name, split=split, revision=revision, streaming=True))
    except SelfRepairError:
        raise
    except Exception as error:  # the hub client raises a dozen unrelated types, at the first row or any later one
        reason = _first_line(error) if offline is None else f"{offline}, and it is not in the local cache"
        raise SelfRepairError(
            f"dataset '{name}' (split '{split}') cannot be read: {reason}. Give a hub dataset, a "
            f"{', '.join(FILE_TYPES)} file, or `{STDLIB}`, which needs no network."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
