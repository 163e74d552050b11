"""Rows and partners as in the code released with the paper, which used `tokenize_and_concatenate` of TransformerLens.

A thousand documents at a time are joined by the end-of-text token's text, and that text is cut into twenty chunks of one
length, anywhere. Each chunk is tokenized by itself. Every end-of-text token is dropped, because tokenizers padded with it and
padding was removed: rows run from one document into the next without a separator.
"""

import bisect
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from selfrepair.ingest.text.documents import Document, DocumentCounts
from selfrepair.ingest.text.packing import Row, begin_token
from selfrepair.ingest.text.tokenizing import SpecialTokens, joined, tokenize
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RUSHING2024 = "rushing2024"
SEQ_LEN = 128
BATCH_DOCUMENTS = 1000
CHUNKS = 20

BATCH = 30
"""Prompts in a batch."""


def chunked(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", seq_len: int, counts: DocumentCounts
) -> Iterator[Row]:
    """Rows of BOS and seq_len - 1 tokens; what is left of each thousand documents is dropped."""
    begin = begin_token(tokenizer)
    if tokenizer.eos_token is None:
        raise SelfRepairError(
            f"the tokenizer has no end-of-text token, which --protocol {RUSHING2024} joins documents with. Leave it out."
        )
    whole, special = joined(documents), SpecialTokens(tokenizer)
    while batch := list(itertools.islice(whole, BATCH_DOCUMENTS)):
        counts.empty += sum(not document.text for document in batch)
        for document in batch:
            special.count_spelled(document, counts)
        stream = _stream(batch, tokenizer)
        while len(row := list(itertools.islice(stream, seq_len - 1))) == seq_len - 1:
            yield (begin, *(token for token, _ in row)), row[0][1]


def next_batch(n_prompts: int) -> list[int]:
    """The partner of every prompt: the one at the same place of the next batch of 30, the first following the last.

    Raises SelfRepairError where that could be the prompt itself.
    """
    if n_prompts <= BATCH:
        raise SelfRepairError(
            f"--protocol {RUSHING2024} takes a prompt's partner from the next batch of {BATCH}, and --prompts {n_prompts} "
            f"has no second batch. Use --prompts {BATCH + 1} or more, such as {10 * BATCH}."
        )
    return [(prompt + BATCH) % n_prompts for prompt in range(n_prompts)]


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
    for found in tokenize(chunks, tokenizer, DocumentCounts()):
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
