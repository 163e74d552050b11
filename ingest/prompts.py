"""Turn documents into prompts: rows of tokens, each with its document, its text and its partner."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.documents import Document, TokenRow
from selfrepair.ingest.left_out import LeftOut
from selfrepair.ingest.packing import DOCUMENT, NONE, PACKED, one_per_document, pack, with_partners
from selfrepair.ingest.pairing import NoPartnerError, next_batch, pair
from selfrepair.ingest.refusals import check_length, check_takes_rows, too_few
from selfrepair.ingest.rushing2024 import RUSHING2024, chunked
from selfrepair.ingest.sources import RANDOM, Source
from selfrepair.warehouse.errors import SelfRepairError

PACKINGS = {PACKED: pack, DOCUMENT: one_per_document, RUSHING2024: chunked}
"""How documents become rows of tokens."""


@dataclass(frozen=True)
class Prompt:
    """A row of token ids; `document` is the number of the one its first token of text comes from."""

    tokens: tuple[int, ...]
    document: int


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a run, ordered by length; `partners` is None where resample ablation is not asked for.

    `notes` tell of documents that were left out.
    """

    prompts: list[Prompt]
    packing: str
    partners: list[int] | None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def seq_len(self) -> int:
        """Tokens of the longest prompt."""
        return len(self.prompts[-1].tokens)

    @property
    def n_positions(self) -> int:
        """Measured positions of all prompts: every token but each prompt's last."""
        return sum(len(prompt.tokens) - 1 for prompt in self.prompts)

    def fingerprint(self) -> str:
        """SHA-256 of every token id, document number and partner."""
        digest = hashlib.sha256()
        for index, prompt in enumerate(self.prompts):
            partner = -1 if self.partners is None else self.partners[index]
            digest.update(repr((prompt.tokens, prompt.document, partner)).encode())
        return digest.hexdigest()

    def tokens(self, indices: Iterable[int]) -> NDArray[np.int64]:
        """Token ids of prompts of one length, [prompt, seq]."""
        return np.array([self.prompts[index].tokens for index in indices], dtype=np.int64)


def build_prompts(
    source: Source,
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    n_prompts: int,
    seq_len: int,
    d_vocab: int,
    context: int | None,
    seed: int,
    resample: bool,
    packing: str = PACKED,
) -> PromptSet:
    """The first `n_prompts` prompts of `source`.

    Text becomes rows of at most `seq_len` tokens that start with BOS, as `packing` says: `packed`, `document` or
    `rushing2024`. Rows of tokens are taken as they are. Raises SelfRepairError for too little text, too long rows,
    unknown token ids, and where resample ablation finds no partner.
    """
    left_out = LeftOut()
    first, documents = _peek(source)
    if isinstance(first, TokenRow):
        check_takes_rows(source.name, packing)
        packing = NONE
        found = [Prompt(row.tokens, row.number) for row in itertools.islice(_token_rows(source, documents), n_prompts)]
    else:
        if tokenizer is None:
            raise SelfRepairError(
                f"the model comes without a tokenizer; give a dataset whose rows hold `tokens`, or `{RANDOM}`."
            )
        check_length(seq_len, context, packing)
        rows = PACKINGS[packing](_texts(source, documents), tokenizer, seq_len, left_out)
        if packing == DOCUMENT and resample:
            rows = with_partners(rows, n_prompts, left_out)
        found = [Prompt(*row) for row in itertools.islice(rows, n_prompts)]
    if len(found) < n_prompts:
        raise too_few(source.name, len(found), n_prompts, packing, seq_len, left_out)
    found.sort(key=lambda prompt: len(prompt.tokens))
    _check_tokens(found, source.name, d_vocab, context)
    partners = None
    if resample:
        partners = next_batch(n_prompts) if packing == RUSHING2024 else _partners(found, seed)
    return PromptSet(found, packing, partners, left_out.sentences())


def token_texts(tokenizer: PreTrainedTokenizerBase | None, tokens: Sequence[int]) -> list[str]:
    """Each token as readable text, its leading space kept; `<17>` without a tokenizer."""
    if tokenizer is None:
        return [f"<{token}>" for token in tokens]
    pieces = tokenizer.convert_ids_to_tokens(list(tokens))
    return [
        # SentencePiece marks a space with a character that decoding one token alone drops.
        piece.replace("\u2581", " ")
        if isinstance(piece, str) and piece.startswith("\u2581")
        else str(tokenizer.decode([token]))
        for piece, token in zip(pieces, tokens, strict=True)
    ]


def _peek(source: Source) -> tuple[Document | TokenRow, Iterator[Document | TokenRow]]:
    first = next(source.documents, None)
    if first is None:
        raise SelfRepairError(f"dataset '{source.name}' is empty. Give one with rows of `text` or `tokens`.")
    return first, itertools.chain([first], source.documents)


def _token_rows(source: Source, documents: Iterable[Document | TokenRow]) -> Iterator[TokenRow]:
    for row in documents:
        if not isinstance(row, TokenRow):
            raise SelfRepairError(
                f"dataset '{source.name}' mixes rows of `tokens` and of `text`. Split it into two files."
            )
        if len(row.tokens) < 2:
            raise SelfRepairError(
                f"dataset '{source.name}', row {row.number} holds {len(row.tokens)} tokens; a prompt needs 2 or more."
            )
        yield row


def _texts(source: Source, documents: Iterable[Document | TokenRow]) -> Iterator[Document]:
    for row in documents:
        if not isinstance(row, Document):
            raise SelfRepairError(
                f"dataset '{source.name}' mixes rows of `text` and of `tokens`. Split it into two files."
            )
        yield row


def _check_tokens(prompts: list[Prompt], name: str, d_vocab: int, context: int | None) -> None:
    for prompt in prompts:
        wrong = next((token for token in prompt.tokens if not 0 <= token < d_vocab), None)
        if wrong is not None:
            raise SelfRepairError(
                f"dataset '{name}', document {prompt.document} holds token id {wrong}; the model knows 0 to {d_vocab - 1}. "
                "Tokenize with this model's own tokenizer."
            )
        if context is not None and len(prompt.tokens) > context:
            raise SelfRepairError(
                f"dataset '{name}', document {prompt.document} holds {len(prompt.tokens)} tokens, the model's context is "
                f"{context}. Cut it to {context} or fewer."
            )


def _partners(prompts: list[Prompt], seed: int) -> list[int]:
    try:
        return pair([prompt.document for prompt in prompts], [len(prompt.tokens) for prompt in prompts], seed)
    except NoPartnerError as error:
        raise SelfRepairError(
            f"resample ablation needs a partner of the same length, but {error}. "
            "Give two or more prompts of each length, or use --ablation mean,zero."
        ) from error
