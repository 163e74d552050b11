"""Open a dataset by name or file, and yield its documents in order.

`stdlib` is the text on every machine, `random` is none at all; a path is a .txt, .jsonl or .parquet file; anything else is
a dataset of the Hugging Face hub, streamed.
"""

import itertools
import platform
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from selfrepair.ingest.text import stdlib
from selfrepair.ingest.text.chunks import in_pieces
from selfrepair.ingest.text.dataset_files import json_lines, parquet_rows, text_blocks
from selfrepair.ingest.text.documents import AnswerRow, DatasetRow, Document, TokenRow
from selfrepair.ingest.text.hub_datasets import hub_rows
from selfrepair.warehouse.errors import SelfRepairError

FILE_TYPES = (".txt", ".jsonl", ".parquet")
STDLIB, RANDOM = "stdlib", "random"
ANSWER, FOIL = "answer", "foil"
"""Columns of rows that ask for one token after their text."""

TEXT = "text"
"""The column of a dataset that holds its text unless another is named."""

_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, which JSON can hold and no text has


@dataclass(frozen=True)
class Source:
    """An opened dataset; `documents` can be walked once."""

    name: str
    split: str | None
    revision: str | None
    documents: Iterator[DatasetRow]

    def begun(self) -> "Source":
        """The same, its first row read: what cannot be read at all is found out now."""
        return replace(self, documents=itertools.chain(list(itertools.islice(self.documents, 1)), self.documents))


def open_source(
    name: str,
    *,
    split: str | None = None,
    revision: str | None = None,
    text_column: str = TEXT,
    whole: bool = False,
) -> Source:
    """The dataset `name`; of `random` there are no rows yet, as they are drawn for a model (`random_tokens`).

    `whole` has documents of stdlib one after the other, which else come in turns, piece by piece.

    Raises SelfRepairError when there is no such file or hub dataset, when it has no such split, when a row holds neither
    `text_column` nor `tokens`, and for options that mean nothing to such a dataset.
    """
    path = Path(name)
    is_file = name not in (STDLIB, RANDOM) and (path.suffix in FILE_TYPES or path.exists())
    is_hub = name not in (STDLIB, RANDOM) and not is_file
    _check_option("--dataset-revision", revision, name, means_something=is_hub)
    _check_option("--split", split, name, means_something=is_hub or name == STDLIB)
    has_columns = is_hub or (is_file and path.suffix != ".txt")
    _check_option("--text-column", None if text_column == TEXT else text_column, name, means_something=has_columns)
    if name == RANDOM:
        return Source(RANDOM, None, None, iter(()))
    if name == STDLIB:
        split = split or "heldout"
        documents = stdlib.whole(split) if whole else stdlib.pieces(split)
        return Source(STDLIB, split, f"Python {platform.python_version()}", documents)
    if is_file:
        _check_file(path)
        return Source(path.name, None, None, _from_file(path, text_column))
    split = split or "train"
    return Source(name, split, revision, read_rows(name, hub_rows(name, split, revision), text_column))


def _check_option(option: str, value: str | None, name: str, *, means_something: bool) -> None:
    if value is not None and not means_something:
        raise SelfRepairError(
            f"{option} {value} means nothing to dataset '{name}', which has no such thing. Leave it out."
        )


def _check_file(path: Path) -> None:
    if path.suffix not in FILE_TYPES:
        raise SelfRepairError(
            f"dataset file {path} is not one of {', '.join(FILE_TYPES)}. Convert it, one row a document."
        )
    if not path.is_file():
        raise SelfRepairError(
            f"dataset file {path} does not exist. Give a {', '.join(FILE_TYPES)} file, or `{STDLIB}`."
        )


def _from_file(path: Path, text_column: str) -> Iterator[DatasetRow]:
    try:
        if path.suffix == ".txt":
            yield from in_pieces(Document(0, ""), text_blocks(path))
        else:
            rows = json_lines(path) if path.suffix == ".jsonl" else parquet_rows(path)
            yield from read_rows(path, rows, text_column)
    except (OSError, ValueError) as error:
        raise SelfRepairError(f"dataset file {path} cannot be read: {error}. Write it anew.") from error


def read_rows(origin: Path | str, rows: Iterable[Any], text_column: str) -> Iterator[DatasetRow]:
    """Documents, rows of tokens and prompts with an answer from rows with columns; errors name their `origin`."""
    for number, row in enumerate(rows):
        found: Document | TokenRow
        if isinstance(row, dict) and isinstance(row.get(text_column, 0), str | None):
            found = Document(number, _SURROGATES.sub("?", row[text_column] or ""))
        elif isinstance(row, dict) and text_column == TEXT and isinstance(row.get("tokens"), list):
            tokens = row["tokens"]
            if not all(_is_whole(token) for token in tokens):
                raise SelfRepairError(f"{origin}, row {number}: `tokens` must be a list of whole numbers.")
            found = TokenRow(number, tuple(tokens))
        else:
            raise _no_text(origin, number, row, text_column)
        asks = text_column == TEXT and any(row.get(name) is not None for name in (ANSWER, FOIL))
        yield _asking(origin, row, found) if asks else found


def _asking(origin: Path | str, row: dict[str, Any], found: Document | TokenRow) -> AnswerRow:
    """The prompt of a row with an answer: words where it holds text, token ids where it holds tokens."""
    in_tokens = isinstance(found, TokenRow)

    def one(name: str) -> str | int:
        value: str | int | None = row.get(name)
        if value is None or not (_is_whole(value) if in_tokens else isinstance(value, str)):
            raise SelfRepairError(
                f"{origin}, row {found.number}: `{name}` is {value!r:.40}, not {'a token id' if in_tokens else 'a word'}. Give "
                f"one, or rename the columns `{ANSWER}` and `{FOIL}` to measure every token of the row."
            )
        return value

    prompt = found.tokens if isinstance(found, TokenRow) else found.text
    return AnswerRow(found.number, prompt, one(ANSWER), None if row.get(FOIL) is None else one(FOIL))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_text(origin: Path | str, number: int, row: Any, text_column: str) -> SelfRepairError:
    at = f"{origin}, row {number}"
    if not isinstance(row, dict):
        return SelfRepairError(f'{at} is no object with columns: it is {row!r:.40}. Write {{"{TEXT}": "..."}}.')
    texts = {name: len(value) for name, value in row.items() if isinstance(value, str)}
    longest = max(texts, key=texts.__getitem__, default=None)
    step = (
        f"Use --text-column {longest}." if longest else f"Give rows of `{TEXT}`, or of `tokens` (a list of token ids)."
    )
    if text_column in row:
        kind = type(row[text_column]).__name__
        return SelfRepairError(f"{at}: column `{text_column}` holds {kind}, not text. {step}")
    wanted = (
        f"neither `{TEXT}` (a string) nor `tokens` (a list of token ids)"
        if text_column == TEXT
        else f"no `{text_column}`"
    )
    return SelfRepairError(f"{at} has {wanted}; it has {', '.join(row) or 'no column'}. {step}")
