"""Open a dataset by name or file, and yield its documents in order.

`stdlib` is the text on every machine, `random` is random tokens; a path is a .txt, .jsonl or .parquet file; anything else
is a dataset of the Hugging Face hub, streamed.
"""

import itertools
import platform
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from selfrepair.ingest.terms import row_of
from selfrepair.ingest.text import stdlib
from selfrepair.ingest.text.dataset_files import json_lines, parquet_rows, text_blocks
from selfrepair.ingest.text.documents import AnswerRow, DatasetRow, Document, TokenRow
from selfrepair.ingest.text.hub_datasets import hub_rows
from selfrepair.ingest.text.packing import NONE
from selfrepair.ingest.text.refusals import check_length
from selfrepair.ingest.text.tokenizing import in_chunks
from selfrepair.warehouse.errors import SelfRepairError, in_words
from selfrepair.warehouse.files import is_lfs_pointer

if TYPE_CHECKING:
    from selfrepair.ingest.models.tokenizer import Vocabulary

FILE_TYPES = (".txt", ".jsonl", ".parquet")
"""File types that are read; the first two also compressed."""

COMPRESSED = (".gz", ".zst")
"""What the name of a compressed text ends with, after its type."""

OTHER_FILE_TYPES = (".csv", ".tsv", ".json", ".arrow", ".feather", ".gz", ".zst", ".bz2", ".xz", ".zip", ".xlsx", ".md")
"""A name that ends so is meant as a file, and no hub dataset."""

STDLIB, RANDOM = "stdlib", "random"
TOKENS = "tokens"
"""The column of a dataset whose rows are prompts in token ids."""

ANSWER, FOIL = "answer", "foil"
"""Columns of prompts with an answer."""

TEXT = "text"
"""The column of a dataset that holds its text unless another is named."""

_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of characters, which JSON can hold and no text has


@dataclass(frozen=True)
class Source:
    """An opened dataset; `documents` can be iterated once."""

    name: str
    split: str | None
    revision: str | None
    documents: Iterator[DatasetRow]

    def with_first_row_read(self) -> "Source":
        """The same, its first row read already: a dataset that cannot be read at all fails now."""
        return replace(self, documents=itertools.chain(list(itertools.islice(self.documents, 1)), self.documents))


def open_source(
    name: str,
    *,
    split: str | None = None,
    revision: str | None = None,
    text_column: str = TEXT,
    whole: bool = False,
) -> Source:
    """The dataset `name`; `random` has no rows yet, as they are drawn for a model (`random_rows`).

    With `whole`, documents of stdlib come one after the other, otherwise interleaved, chunk by chunk.

    Raises SelfRepairError when there is no such file or hub dataset, when it has no such split, when a row holds neither
    `text_column` nor `tokens`, and for options that mean nothing to such a dataset.
    """
    path = Path(name)
    is_file = name not in (STDLIB, RANDOM) and (path.exists() or _names_a_file(name))
    is_hub = name not in (STDLIB, RANDOM) and not is_file
    _check_option("--dataset-revision", revision, name, means_something=is_hub)
    _check_option("--split", split, name, means_something=is_hub or name == STDLIB)
    has_columns = is_hub or (is_file and _type(path) != ".txt")
    _check_option("--text-column", None if text_column == TEXT else text_column, name, means_something=has_columns)
    if name == RANDOM:
        return Source(RANDOM, None, None, iter(()))
    if name == STDLIB:
        split = split or "heldout"
        documents = stdlib.whole_documents(split) if whole else stdlib.interleaved_chunks(split)
        return Source(STDLIB, split, f"Python {platform.python_version()}", documents)
    if is_file:
        _check_file(name)
        return Source(path.name, None, None, _from_file(path, text_column))
    split = split or "train"
    return Source(name, split, revision, read_rows(name, hub_rows(name, split, revision), text_column))


def random_rows(vocabulary: "Vocabulary", *, seq_len: int, seed: int) -> Iterator[TokenRow]:
    """Rows of seq_len tokens, drawn uniformly from the vocabulary, without end.

    They begin with BOS where the tokenizer has one. Unembeddings are often padded with tokens that no text has: with a
    tokenizer, only its own are drawn. Raises SelfRepairError for a length that cannot be measured.
    """
    check_length(seq_len, vocabulary.context, NONE)
    tokenizer, n_tokens = vocabulary.tokenizer, vocabulary.d_vocab
    begin = () if tokenizer is None or tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    n_tokens = n_tokens if tokenizer is None else min(n_tokens, len(tokenizer))
    draw = np.random.default_rng(seed)
    for number in itertools.count():
        yield TokenRow(number, (*begin, *draw.integers(n_tokens, size=seq_len - len(begin)).tolist()))


def _names_a_file(name: str) -> bool:
    """Whether a name that is no existing path can only be meant as one: hub datasets are NAME or OWNER/NAME."""
    path = Path(name)
    suffix = path.suffix.lower() in FILE_TYPES + OTHER_FILE_TYPES
    return suffix or path.is_absolute() or name.startswith((".", "~")) or len(path.parts) > 2


def _check_option(option: str, value: str | None, name: str, *, means_something: bool) -> None:
    if value is not None and not means_something:
        raise SelfRepairError(f"{option} {value} does not apply to dataset '{name}'. Leave it out.")


def _check_file(name: str) -> None:
    path, readable = Path(name), f"{', '.join(FILE_TYPES[:-1])} or {FILE_TYPES[-1]}"
    if not path.exists():
        raise SelfRepairError(f"dataset file {name} does not exist. Give a {readable} file, or `{STDLIB}`.")
    if _type(path) not in FILE_TYPES or not path.is_file():
        raise SelfRepairError(f"dataset {name} is not a {readable} file. Convert it, one row a document.")
    if is_lfs_pointer(path):
        raise SelfRepairError(
            f"dataset file {name} was not fetched: it is a Git LFS pointer. Fetch what it points to: "
            f"git -C {quote(str(path.parent))} lfs pull --include {quote(path.name)}"
        )


def _type(path: Path) -> str:
    """The ending of a file's name, without the one that says how its text is compressed; `.parquet` compresses by itself."""
    if path.suffix in COMPRESSED and Path(path.stem).suffix in (".txt", ".jsonl"):
        return Path(path.stem).suffix
    return path.suffix


def _from_file(path: Path, text_column: str) -> Iterator[DatasetRow]:
    try:
        if _type(path) == ".txt":
            yield from in_chunks(Document(0, ""), text_blocks(path))
        else:
            rows = json_lines(path) if _type(path) == ".jsonl" else parquet_rows(path)
            yield from read_rows(path, rows, text_column)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise SelfRepairError(f"dataset file {path} cannot be read: {error}. Write it again.") from error


def read_rows(origin: Path | str, rows: Iterable[Any], text_column: str) -> Iterator[DatasetRow]:
    """Documents, rows of tokens and prompts with an answer from rows with columns; errors name their `origin`."""
    for number, row in enumerate(rows):
        found: Document | TokenRow
        tokens = row.get(TOKENS) if isinstance(row, dict) and text_column == TEXT else None
        if isinstance(tokens, list) and not (isinstance(row.get(TEXT), str) and _are_words(tokens)):
            if isinstance(row.get(TEXT), str):
                raise SelfRepairError(
                    f"{row_of(origin, number)} has both `{TEXT}` and `{TOKENS}`. Leave one of them out of the rows."
                )
            if not all(_is_whole(token) for token in tokens):
                raise _no_ids(origin, number, tokens)
            found = TokenRow(number, tuple(tokens))
        elif tokens is not None and not isinstance(row.get(TEXT), str):
            raise _no_ids(origin, number, tokens)
        elif isinstance(row, dict) and isinstance(row.get(text_column, 0), str | None):
            found = Document(number, _SURROGATES.sub("?", row[text_column] or ""))
        else:
            raise _no_text(origin, number, row, text_column)
        has_answer = text_column == TEXT and any(row.get(name) is not None for name in (ANSWER, FOIL))
        yield _with_answer(origin, row, found) if has_answer else found


def _with_answer(origin: Path | str, row: dict[str, Any], found: Document | TokenRow) -> AnswerRow:
    """The prompt of a row with an answer: words where it holds text, token ids where it holds tokens."""
    in_tokens = isinstance(found, TokenRow)

    def value_of(name: str) -> str | int:
        value: str | int | None = row.get(name)
        if value is None or not (_is_whole(value) if in_tokens else isinstance(value, str)):
            raise SelfRepairError(
                f"{row_of(origin, found.number)}: `{name}` is {value!r:.40}, not {'a token id' if in_tokens else 'a word'}. "
                f"Give one, or rename the columns `{ANSWER}` and `{FOIL}` to measure every token of the row."
            )
        return value

    prompt = found.tokens if isinstance(found, TokenRow) else found.text
    return AnswerRow(found.number, prompt, value_of(ANSWER), None if row.get(FOIL) is None else value_of(FOIL))


def _are_words(tokens: list[Any]) -> bool:
    """Whether a column of that name holds the words of a text, as in data sets of tagged ones, and no ids."""
    return all(isinstance(token, str) for token in tokens)


def _no_ids(origin: Path | str, number: int, tokens: object) -> SelfRepairError:
    return SelfRepairError(
        f"{row_of(origin, number)}: `{TOKENS}` must be a list of whole numbers, such as [464, 3290], and not {tokens!r:.40}. "
        f"Write the ids so, or give `{TEXT}`."
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _no_text(origin: Path | str, number: int, row: Any, text_column: str) -> SelfRepairError:
    at = row_of(origin, number)
    if not isinstance(row, dict):
        return SelfRepairError(f'{at} is not an object with columns: {row!r:.40}. Write {{"{TEXT}": "..."}}.')
    texts = {name: len(value) for name, value in row.items() if isinstance(value, str)}
    longest = max(texts, key=texts.__getitem__, default=None)
    step = (
        in_words(f"Use --text-column {longest}.", f"Pass `{longest}` as `{TEXT}`.")
        if longest
        else f"Give rows of `{TEXT}`, or of `tokens` (a list of token ids)."
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
