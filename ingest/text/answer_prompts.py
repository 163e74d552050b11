"""Prompts with an answer: the answer, and its foil if there is one, must be one token each."""

from collections.abc import Iterable, Iterator

from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.terms import row_of
from selfrepair.ingest.text.documents import AnswerRow, DocumentCounts
from selfrepair.ingest.text.packing import begin_token
from selfrepair.ingest.text.tokenizing import SpecialTokens, encode, token_texts
from selfrepair.warehouse.errors import SelfRepairError, in_words


def answer_prompts(
    rows: Iterable[AnswerRow], tokenizer: PreTrainedTokenizerBase | None, source: str, counts: DocumentCounts
) -> Iterator[tuple[tuple[int, ...], int, int | None]]:
    """Token ids of each row (BOS and its text, or its tokens unchanged; then the answer), its number, and its foil's id.

    Texts that spell special tokens are counted.

    Raises SelfRepairError for an answer or foil of several tokens, for equal ones, and where only some rows have a foil.
    """
    has_foils: bool | None = None
    special = None if tokenizer is None else SpecialTokens(tokenizer)
    for row in rows:
        place = row_of(f"dataset '{source}'", row.number)
        if has_foils is None:
            has_foils = row.foil is not None
        if (row.foil is not None) != has_foils:
            raise SelfRepairError(
                f"{place} has {'no foil' if has_foils else 'a foil'}, and the rows before it have "
                f"{'one' if has_foils else 'none'}. Logits and logit differences are two runs: "
                f"{in_words('put them in two files', 'measure them one after the other')}."
            )
        before = _tokens_before(row, tokenizer, place)
        answer = _one_token(row, "answer", row.answer, tokenizer, place)
        foil = None if row.foil is None else _one_token(row, "foil", row.foil, tokenizer, place)
        if foil == answer:
            raise SelfRepairError(f"{place}: answer and foil are the same token, {answer}. Give two different ones.")
        if special is not None and isinstance(row.prompt, str):
            special.count(row.number, list(before[1:]), counts)
        yield (*before, answer), row.number, foil


def _tokens_before(row: AnswerRow, tokenizer: PreTrainedTokenizerBase | None, place: str) -> tuple[int, ...]:
    if isinstance(row.prompt, tuple):
        if not row.prompt:
            raise SelfRepairError(
                f"{place}: `tokens` is empty: nothing comes before the answer. Give one token or more."
            )
        return row.prompt
    if tokenizer is None:
        raise SelfRepairError(f"{place} holds text, and the model has no tokenizer. Give `tokens` instead.")
    return begin_token(tokenizer), *_ids(tokenizer, row.prompt)


def _one_token(
    row: AnswerRow, name: str, word: str | int, tokenizer: PreTrainedTokenizerBase | None, place: str
) -> int:
    """The token of an answer or foil, as the tokenizer makes it after the row's text."""
    if isinstance(word, int) or not isinstance(row.prompt, str):
        return int(word)
    assert tokenizer is not None, "the text before it was tokenized"
    before, whole = _ids(tokenizer, row.prompt), _ids(tokenizer, row.prompt + word)
    if whole[:-1] == before:
        return whole[-1]
    shared = next((i for i, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1]), len(before))
    found = ", ".join(f"'{text}'" for text in token_texts(tokenizer, whole[shared:])) or "nothing"
    hint = "" if word.startswith(" ") else " Try a space in front of it."
    raise SelfRepairError(
        f"{place}: {name} '{word}' is not one token after its text; the text then ends with {found}.{hint} "
        "Choose another word, or give `tokens` and ids; to measure every token of the text, rename the column."
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    (ids,) = encode([text], tokenizer)
    return ids
