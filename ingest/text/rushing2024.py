"""Rows as the code released with the paper made them, with the `tokenize_and_concatenate` of TransformerLens of its time.

A thousand documents at a time are joined by the end-of-text token's text, and that text is cut into twenty chunks of one
length, anywhere. Each chunk is tokenized by itself. Every end-of-text token is dropped, because tokenizers padded with it and
padding was taken out: rows run from one document into the next without a sign.
"""

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from selfrepair.ingest.text.chunks import joined
from selfrepair.ingest.text.documents import Document
from selfrepair.ingest.text.packing import Row, begin_token
from selfrepair.ingest.text.skipped_documents import LeftOut
from selfrepair.ingest.text.tokenizing import tokenize
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RUSHING2024 = "rushing2024"
SEQ_LEN = 128
BATCH_DOCUMENTS = 1000
CHUNKS = 20


def chunked(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", seq_len: int, left_out: LeftOut
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


def _stream(documents: list[Document], tokenizer: "PreTrainedTokenizerBase") -> Iterator[tuple[int, int]]:
    """The tokens of a batch but the end-of-text tokens, each with the number of its document.

    A tokenizer that reads the separator as other text leaves no sign of it: all of a chunk then counts to its first document.
    """
    separator, end = str(tokenizer.eos_token), int(tokenizer.eos_token_id)
    text = separator.join(document.text for document in documents)
    size = (len(text) - 1) // CHUNKS + 1
    chunks = (Document(chunk, text[size * chunk : size * (chunk + 1)]) for chunk in range(CHUNKS))
    # A separator counts to the document after it: a chunk that begins within one begins with the next document.
    lengths = (len(document.text) + len(separator) for document in documents)
    ends = [total - len(separator) for total in itertools.accumulate(lengths)]
    numbers: list[int] = []
    for found in tokenize(chunks, tokenizer, LeftOut()):
        if not numbers:
            starts = _parts(text, separator, size * found.number, size * (found.number + 1))
            owners = [min(bisect.bisect_right(ends, start), len(documents) - 1) for start in starts]
            numbers = [documents[owner].number for owner in reversed(owners)]
        for token in found.ids:
            if token != end:
                yield token, numbers[-1]
            elif len(numbers) > 1:
                numbers.pop()
        if found.ends:
            numbers = []


def _parts(text: str, separator: str, start: int, end: int) -> list[int]:
    """Where the parts of a chunk begin that separators part."""
    return [start, *(found.end() for found in re.compile(re.escape(separator)).finditer(text, start, end))]
