"""Rows as the code released with the paper made them, with the `tokenize_and_concatenate` of TransformerLens of its time.

A thousand documents at a time are joined by the end-of-text token's text, and that text is cut into twenty chunks of one
length, anywhere. Each chunk is tokenized by itself. Every end-of-text token is dropped, because tokenizers padded with it and
padding was taken out: rows run from one document into the next without a sign.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator

from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.documents import Document
from selfrepair.ingest.left_out import LeftOut
from selfrepair.ingest.packing import Row, begin_token
from selfrepair.ingest.pieces import joined
from selfrepair.ingest.tokenizing import tokenize
from selfrepair.warehouse.errors import SelfRepairError

RUSHING2024 = "rushing2024"
SEQ_LEN = 128
BATCH_DOCUMENTS = 1000
CHUNKS = 20


def chunked(
    documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, seq_len: int, left_out: LeftOut
) -> Iterator[Row]:
    """Rows of BOS and seq_len - 1 tokens; what is left of each thousand documents is dropped."""
    begin = begin_token(tokenizer)
    if tokenizer.eos_token is None:
        raise SelfRepairError(
            f"the tokenizer has no end-of-text token, which --protocol {RUSHING2024} joins documents with. Leave it out."
        )
    whole = joined(documents)
    while batch := list(itertools.islice(whole, BATCH_DOCUMENTS)):
        left_out.empty += sum(not document.text for document in batch)
        stream = _stream(batch, tokenizer)
        while len(row := list(itertools.islice(stream, seq_len - 1))) == seq_len - 1:
            yield (begin, *(token for token, _ in row)), row[0][1]


def _stream(documents: list[Document], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, int]]:
    """The tokens of a batch, each with the number of its document."""
    separator = str(tokenizer.eos_token)
    text = separator.join(document.text for document in documents)
    size = (len(text) - 1) // CHUNKS + 1
    chunks = [text[size * chunk : size * (chunk + 1)] for chunk in range(CHUNKS)]
    # A separator counts to the document after it: a chunk that begins within one begins with the next document.
    lengths = (len(document.text) + len(separator) for document in documents)
    ends = [end - len(separator) for end in itertools.accumulate(lengths)]
    ids: list[int] = []
    for found in tokenize((Document(n, chunk) for n, chunk in enumerate(chunks)), tokenizer, LeftOut()):
        ids.extend(found.ids)
        if found.ends:
            starts = _starts(chunks[found.number], separator, size * found.number)
            numbers = [documents[min(bisect.bisect_right(ends, start), len(ends) - 1)].number for start in starts]
            yield from _without_ends(ids, int(tokenizer.eos_token_id), numbers)
            ids = []


def _starts(chunk: str, separator: str, offset: int) -> list[int]:
    """Where the parts of a chunk begin that separators part."""
    lengths = [len(part) + len(separator) for part in chunk.split(separator)]
    return [offset + start for start in itertools.accumulate(lengths[:-1], initial=0)]


def _without_ends(ids: list[int], end: int, numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The tokens of a chunk but the end-of-text tokens, each of which leads to the next of its parts' documents.

    A tokenizer that reads the separator as other text leaves no sign: all the chunk then counts to its first document.
    """
    part = 0
    for token in ids:
        if token == end:
            part = min(part + 1, len(numbers) - 1)
        else:
            yield token, numbers[part]
