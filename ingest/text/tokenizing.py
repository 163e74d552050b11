"""Documents to token ids: many texts in one call of the tokenizer, long ones in pieces, no more than are asked for."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selfrepair.ingest.text.chunks import in_pieces, joined
from selfrepair.ingest.text.documents import Document
from selfrepair.ingest.text.skipped_documents import LeftOut

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_CHARACTERS = 2**18
BATCH_DOCUMENTS = 1000
"""What goes to the tokenizer at once, about: enough to be fast, and little to throw away once there are enough prompts."""

CHARACTERS_A_TOKEN = 8
"""More than tokens of most texts have on average: where only the first are wanted, this much of a document will do."""


@dataclass(frozen=True)
class Tokens:
    """Token ids of a document, or of a piece of one, after which it `ends` or goes on; no special tokens are added."""

    number: int
    ids: list[int]
    ends: bool


def tokenize(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", left_out: LeftOut
) -> Iterator[Tokens]:
    """The documents' tokens in order. Documents without any are left out."""
    pieces = (piece for document in documents for piece in in_pieces(document))
    brings_its_own_space = _brings_its_own_space(tokenizer)
    goes_on = has_tokens = False
    for batch in _batches(pieces):
        texts = []
        for piece in batch:
            texts.append(piece.text.removeprefix(" ") if goes_on and brings_its_own_space else piece.text)
            goes_on = piece.more
        for piece, ids in zip(batch, _ids(texts, tokenizer), strict=True):
            has_tokens = has_tokens or bool(ids)
            if has_tokens:
                yield Tokens(piece.number, ids, ends=not piece.more)
            elif not piece.more:
                left_out.empty += 1
            has_tokens = has_tokens and piece.more


def first_tokens(
    documents: Iterable[Document], tokenizer: "PreTrainedTokenizerBase", n_tokens: int, left_out: LeftOut
) -> Iterator[Tokens]:
    """The first tokens of each document, `n_tokens` at most; of a long one, little more is looked at."""
    for batch in _batches(joined(documents)):
        heads = [next(in_pieces(document, most=CHARACTERS_A_TOKEN * n_tokens)) for document in batch]
        for document, head, ids in zip(batch, heads, _ids([head.text for head in heads], tokenizer), strict=True):
            found = ids
            if head.more and len(ids) < n_tokens:
                whole = tokenize([document], tokenizer, LeftOut())
                found = list(itertools.islice((token for piece in whole for token in piece.ids), n_tokens))
            if found:
                yield Tokens(document.number, found[:n_tokens], ends=True)
            else:
                left_out.empty += 1


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ids(texts: list[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    ids: list[list[int]] = tokenizer(
        texts,
        add_special_tokens=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # or it warns of texts that are longer than the model's context
    )["input_ids"]
    return ids


def _brings_its_own_space(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether every text begins as if a space stood before it, as with SentencePiece: a piece's own would be one too many."""
    whole, word, spaced = _ids(["a a", "a", " a"], tokenizer)
    return whole == word + word != word + spaced
