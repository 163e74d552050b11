"""Turn documents into prompts: rows of tokens, each with its document, its text and its partner."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.asked import Asked, answers, next_tokens
from selfrepair.ingest.documents import Document, TokenRow
from selfrepair.ingest.pairing import NoPartnerError, pair
from selfrepair.ingest.sources import Source
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema import NEXT_TOKEN


@dataclass(frozen=True)
class Prompt:
    """A row of token ids; `document` is the number of the one its first token of text comes from.

    Where answers are asked for, the last token is the answer, and `foil` what it is compared with.
    """

    tokens: tuple[int, ...]
    document: int
    foil: int | None = None


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a run, ordered by length; `partners` is None where resample ablation is not asked for.

    `logit_of` is one of `schema.LOGITS_OF`: what is asked of every prompt.
    """

    prompts: list[Prompt]
    packing: str
    partners: list[int] | None
    logit_of: str = NEXT_TOKEN

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def seq_len(self) -> int:
        """Tokens of the longest prompt."""
        return len(self.prompts[-1].tokens)

    @property
    def n_positions(self) -> int:
        """Measured positions of all prompts."""
        return sum(self.positions_of(index) for index in range(len(self.prompts)))

    def positions_of(self, index: int) -> int:
        """Measured positions of one prompt: all but its last, or where only its answer is asked for, one."""
        return len(self.prompts[index].tokens) - 1 if self.logit_of == NEXT_TOKEN else 1

    def fingerprint(self) -> str:
        """SHA-256 of every token id, document number and partner, and of foils where answers are asked for."""
        digest = hashlib.sha256()
        for index, prompt in enumerate(self.prompts):
            partner = -1 if self.partners is None else self.partners[index]
            foil = () if self.logit_of == NEXT_TOKEN else (self.logit_of, prompt.foil)
            digest.update(repr((prompt.tokens, prompt.document, partner, *foil)).encode())
        return digest.hexdigest()

    def tokens(self, indices: Iterable[int]) -> NDArray[np.int64]:
        """Token ids of prompts of one length, [prompt, seq]."""
        return np.array([self.prompts[index].tokens for index in indices], dtype=np.int64)

    def asked(self, indices: Iterable[int]) -> Asked:
        """What is asked of prompts of one length."""
        chosen = [self.prompts[index] for index in indices]
        tokens = torch.tensor([prompt.tokens for prompt in chosen])
        if self.logit_of == NEXT_TOKEN:
            return next_tokens(tokens)
        foils = [prompt.foil for prompt in chosen if prompt.foil is not None]
        return answers(tokens, torch.tensor(foils) if foils else None)


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
) -> PromptSet:
    """The first `n_prompts` prompts of `source`.

    Text is packed: documents joined by the end-of-text token and cut into rows of `seq_len` that start with BOS. Rows of
    tokens are taken as they are. Raises SelfRepairError for too little text, too long rows, unknown token ids, and
    where resample ablation finds no partner.
    """
    first, documents = _peek(source)
    if isinstance(first, TokenRow):
        found = [Prompt(row.tokens, row.number) for row in itertools.islice(_token_rows(source, documents), n_prompts)]
        packing = "none"
    else:
        if tokenizer is None:
            raise SelfRepairError("the model comes without a tokenizer; give a dataset whose rows hold `tokens`.")
        _check_length(seq_len, context)
        found = list(itertools.islice(pack(_texts(source, documents), tokenizer, seq_len), n_prompts))
        packing = "packed"
    if len(found) < n_prompts:
        unit = "rows of tokens" if packing == "none" else f"rows of {seq_len} tokens"
        raise SelfRepairError(
            f"dataset '{source.name}' gives {len(found)} {unit}, {n_prompts} prompts were asked for. "
            + (f"Use --prompts {len(found)}" if found else "Use a shorter --seq-len")
            + " or a larger dataset."
        )
    found.sort(key=lambda prompt: len(prompt.tokens))
    _check_tokens(found, source.name, d_vocab, context)
    return PromptSet(found, packing, _partners(found, seed) if resample else None)


def pack(documents: Iterable[Document], tokenizer: PreTrainedTokenizerBase, seq_len: int) -> Iterator[Prompt]:
    """Rows of BOS and seq_len - 1 tokens of the joined documents; what is left at the end is dropped.

    A tokenizer without BOS begins rows with its end-of-text token, as TransformerLens does.
    """
    end = tokenizer.eos_token_id
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else end
    if begin is None:
        raise SelfRepairError(
            "the tokenizer has neither a BOS nor an end-of-text token; give rows of `tokens` instead."
        )
    tokens: list[int] = []
    numbers: list[int] = []
    for document in documents:
        ids = tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
        if not ids:
            continue
        if end is not None:
            ids = [*ids, end]
        tokens.extend(ids)
        numbers.extend([document.number] * len(ids))
        cut = 0
        while len(tokens) - cut >= seq_len - 1:
            yield Prompt((begin, *tokens[cut : cut + seq_len - 1]), numbers[cut])
            cut += seq_len - 1
        del tokens[:cut], numbers[:cut]


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


def _check_length(seq_len: int, context: int | None) -> None:
    if context is not None and seq_len > context:
        raise SelfRepairError(
            f"--seq-len {seq_len} is longer than the model's context of {context} tokens. Use --seq-len {context} or less."
        )
    if seq_len < 2:
        raise SelfRepairError(f"--seq-len {seq_len} leaves no position that predicts a token. Use 2 or more.")


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
