"""Documents to prompts: rows of tokens, each with its document and its partner for resample ablation."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from selfrepair.ingest.models.tokenizer import Vocabulary
from selfrepair.ingest.terms import option, row_of
from selfrepair.ingest.text.answer_prompts import answer_prompts
from selfrepair.ingest.text.documents import AnswerRow, DatasetRow, Document, DocumentCounts, TokenRow
from selfrepair.ingest.text.packing import (
    DOCUMENT,
    NONE,
    PACKED,
    begin_token,
    one_per_document,
    pack,
    with_partners,
)
from selfrepair.ingest.text.pairing import NoPartnerError, pair, unchanged_by_partner
from selfrepair.ingest.text.refusals import check_length, check_takes_rows, too_few
from selfrepair.ingest.text.rushing2024 import RUSHING2024, chunked, next_batch
from selfrepair.ingest.text.sources import RANDOM, Source
from selfrepair.ingest.text.targets import PredictionTargets, answer_targets, next_token_targets
from selfrepair.ingest.text.tokenizing import note_on_added_tokens
from selfrepair.warehouse.errors import SelfRepairError, in_words
from selfrepair.warehouse.schema import ANSWER, ANSWER_MINUS_FOIL, LONGEST_PROMPT, NEXT_TOKEN

Row = TypeVar("Row", AnswerRow, TokenRow, Document)

PACKINGS = {PACKED: pack, DOCUMENT: one_per_document, RUSHING2024: chunked}
"""How documents become rows of tokens."""


@dataclass(frozen=True)
class Prompt:
    """A row of token ids; `document` is the number, from 0, of the one that its first token of text comes from.

    Of a prompt with an answer, the last token is the answer, and `foil` the token that it is compared with.
    """

    tokens: tuple[int, ...]
    document: int
    foil: int | None = None


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a run, ordered by length; `partners` is None without resample ablation.

    `notes` are sentences for the user, such as on skipped documents; `logit_of` is one of `schema.LOGITS_OF`: whose logit
    is measured.
    """

    prompts: list[Prompt]
    packing: str
    partners: list[int] | None
    notes: tuple[str, ...] = ()
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
        """Measured positions of one prompt: all but its last, or one where an answer is the only target."""
        return len(self.prompts[index].tokens) - 1 if self.logit_of == NEXT_TOKEN else 1

    def clusters(self) -> list[int]:
        """The document with which each prompt counts in errors: its own, or, where more than half of a prompt's rows are those
        of an earlier one, that one's (the view `prompt_clusters`).
        """
        first: dict[tuple[int | None, ...], int] = {}
        clusters = []
        for prompt in self.prompts:
            n_decisive = (len(prompt.tokens) - 1) // 2 + 2 if self.logit_of == NEXT_TOKEN else len(prompt.tokens)
            clusters.append(first.setdefault((prompt.foil, *prompt.tokens[:n_decisive]), prompt.document))
        return clusters

    def fingerprint(self) -> str:
        """SHA-256 of every token id and document number and, of prompts with an answer, every foil; in SQL the same, where
        warehouses of version 0.1 are upgraded.
        """
        lines = (
            " ".join(map(str, (list(prompt.tokens), prompt.document, *self._answer(prompt)))) for prompt in self.prompts
        )
        return _sha256("".join(map(_sha256, lines)))

    def pairing(self) -> str | None:
        """SHA-256 of every prompt's partner; None without resample ablation."""
        return None if self.partners is None else _sha256(repr(self.partners))

    def fingerprint_of_0_1(self) -> str:
        """The fingerprint as version 0.1 had it in the keys of its runs: with the partners."""
        digest = hashlib.sha256()
        for index, prompt in enumerate(self.prompts):
            partner = -1 if self.partners is None else self.partners[index]
            answer = () if self.logit_of == NEXT_TOKEN else (self.logit_of, prompt.foil)
            digest.update(repr((prompt.tokens, prompt.document, partner, *answer)).encode())
        return digest.hexdigest()

    def tokens(self, indices: Iterable[int]) -> NDArray[np.int64]:
        """Token ids of prompts of one length, [prompt, seq]."""
        return np.array([self.prompts[index].tokens for index in indices], dtype=np.int64)

    def targets(self, indices: Iterable[int]) -> PredictionTargets:
        """The prompts of these numbers, all of one length, with their target tokens."""
        chosen = [self.prompts[index] for index in indices]
        tokens = torch.tensor([prompt.tokens for prompt in chosen])
        if self.logit_of == NEXT_TOKEN:
            return next_token_targets(tokens)
        foils = [prompt.foil for prompt in chosen if prompt.foil is not None]
        return answer_targets(tokens, torch.tensor(foils) if foils else None)

    def _answer(self, prompt: Prompt) -> tuple[str | int, ...]:
        if self.logit_of == NEXT_TOKEN:
            return ()
        return (self.logit_of,) if prompt.foil is None else (self.logit_of, prompt.foil)


@dataclass(frozen=True)
class PromptOptions:
    """How many prompts, of how many tokens at most (BOS included), how documents become rows, and how they are paired.

    `distinct_partners` refuses a pair of prompts that are alike, which is otherwise only noted.
    """

    n_prompts: int
    seq_len: int
    packing: str = PACKED
    seed: int = 0
    resample: bool = True
    distinct_partners: bool = False


def build_prompts(
    source: Source, vocabulary: Vocabulary, options: PromptOptions, counts: DocumentCounts | None = None
) -> PromptSet:
    """The first `n_prompts` prompts of `source`.

    Text becomes rows that start with BOS, by one of `PACKINGS`. Rows of tokens, and prompts with an answer, stay as they
    are. `counts` has what was counted of the documents before.

    Raises SelfRepairError for too little text, too long rows, unknown token ids, and where resample ablation finds no partner
    or, in every pair, nothing that differs.
    """
    n_prompts, packing = options.n_prompts, options.packing
    tokenizer, context = vocabulary.tokenizer, vocabulary.context
    counts = counts or DocumentCounts()
    logit_of = NEXT_TOKEN
    first, documents = _peek(source)
    if isinstance(first, AnswerRow):
        check_takes_rows(source.name, packing, AnswerRow.holds)
        packing, logit_of = NONE, ANSWER if first.foil is None else ANSWER_MINUS_FOIL
        answer_rows = answer_prompts(_only(AnswerRow, source, documents), tokenizer, source.name, counts)
        found = [Prompt(*row) for row in itertools.islice(answer_rows, n_prompts)]
    elif isinstance(first, TokenRow):
        check_takes_rows(source.name, packing, TokenRow.holds)
        packing = NONE
        token_rows = _only(TokenRow, source, documents)
        found = [Prompt(_measurable(row, source), row.number) for row in itertools.islice(token_rows, n_prompts)]
    else:
        if tokenizer is None:
            raise SelfRepairError(
                f"the model has no tokenizer. Give a dataset whose rows hold `tokens`, or `{RANDOM}`."
            )
        check_length(options.seq_len, context, packing)
        rows = PACKINGS[packing](_only(Document, source, documents), tokenizer, options.seq_len, counts)
        if packing == DOCUMENT and options.resample:
            rows = with_partners(rows, n_prompts, counts)
        found = [Prompt(*row) for row in itertools.islice(rows, n_prompts)]
    if len(found) < n_prompts:
        raise too_few(source.name, len(found), n_prompts, packing, options.seq_len, counts, first.holds)
    found.sort(key=lambda prompt: len(prompt.tokens))
    _check_tokens(found, source.name, vocabulary)
    notes = counts.sentences()
    is_text = isinstance(first.prompt if isinstance(first, AnswerRow) else first, str | Document)
    if tokenizer is not None and is_text:
        notes = (*note_on_added_tokens(tokenizer, begin_token(tokenizer)), *notes)
    partners = None
    if options.resample:
        partners = next_batch(n_prompts) if packing == RUSHING2024 else _partners(found, options.seed)
        notes += _notes_on_partners(found, partners, refuse=options.distinct_partners)
    if logit_of != NEXT_TOKEN:
        notes = (*notes, f"Rows have an `answer`: it is the only token scored, at the end of each prompt ({logit_of}).")
    return PromptSet(found, packing, partners, notes, logit_of)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _peek(source: Source) -> tuple[DatasetRow, Iterator[DatasetRow]]:
    first = next(source.documents, None)
    if first is None:
        raise SelfRepairError(f"dataset '{source.name}' is empty. Give one with rows of `text` or `tokens`.")
    return first, itertools.chain([first], source.documents)


def _only(kind: type[Row], source: Source, documents: Iterable[DatasetRow]) -> Iterator[Row]:
    """The rows, all of which must be of the first one's kind."""
    for row in documents:
        if not isinstance(row, kind):
            raise SelfRepairError(
                in_words(f"dataset '{source.name}' mixes", "prompts mixes")
                + f" rows of {kind.holds} and of {row.holds}. "
                + in_words("Split it into two files.", "Measure them one after the other.")
            )
        yield row


def _measurable(row: TokenRow, source: Source) -> tuple[int, ...]:
    if len(row.tokens) < 2:
        place = row_of(f"dataset '{source.name}'", row.number)
        raise SelfRepairError(f"{place} holds {len(row.tokens)} tokens; a prompt needs 2 or more.")
    return row.tokens


def _check_tokens(prompts: list[Prompt], name: str, vocabulary: Vocabulary) -> None:
    d_vocab, context = vocabulary.d_vocab, vocabulary.context
    for prompt in prompts:
        place = row_of(f"dataset '{name}'", prompt.document, "document")
        ids = prompt.tokens if prompt.foil is None else (*prompt.tokens, prompt.foil)
        wrong = next((token for token in ids if not 0 <= token < d_vocab), None)
        if wrong is not None:
            raise SelfRepairError(
                f"{place} holds token id {wrong}; the model has 0 to {d_vocab - 1}. Tokenize with this model's own tokenizer."
            )
        if context is not None and len(prompt.tokens) > context:
            raise SelfRepairError(
                f"{place} holds {len(prompt.tokens)} tokens; the model's context is {context}. Cut it to {context} or fewer."
            )
        if len(prompt.tokens) > LONGEST_PROMPT:
            raise SelfRepairError(
                f"{place} holds {len(prompt.tokens)} tokens; a warehouse takes {LONGEST_PROMPT}. Cut it to so many or fewer."
            )


def _partners(prompts: list[Prompt], seed: int) -> list[int]:
    try:
        return pair([prompt.document for prompt in prompts], [len(prompt.tokens) for prompt in prompts], seed)
    except NoPartnerError as error:
        number = prompts[error.prompt].document
        raise SelfRepairError(
            f"resample ablation needs a partner of the same length, but {in_words(f'row {number + 1}', f'prompts[{number}]')} "
            f"is the only one of {error.length} tokens. Give two or more prompts of each length, or use "
            f"{option('ablation', 'mean,zero')}."
        ) from error


def _notes_on_partners(prompts: list[Prompt], partners: list[int], *, refuse: bool) -> tuple[str, ...]:
    """What to tell of pairs of which one prompt's inputs are the other's; SelfRepairError where there are no other pairs."""
    same = unchanged_by_partner([prompt.tokens for prompt in prompts], partners)
    if same and refuse:
        one, other = prompts[same[0]].document, prompts[partners[same[0]]].document
        raise SelfRepairError(
            f"prompts[{one}] and prompts[{other}] are the same but for their last token, and resample ablation pairs them: it "
            f"would change nothing. Drop one of them, pass another seed, or {option('ablation', 'mean,zero')}."
        )
    if same and len(same) == len(prompts):
        raise SelfRepairError(
            f"each of the {len(prompts):,} prompts is the same as its partner in resample ablation but for the last token: it "
            f"would change nothing. Give prompts that differ, or use {option('ablation', 'mean,zero')}."
        )
    return (
        (
            f"{len(same):,} of {len(prompts):,} prompts are the same as their partner in resample ablation but for the last "
            "token: their resample rows show no effect. Take repeated texts out of the dataset, or leave resample out.",
        )
        if same
        else ()
    )
