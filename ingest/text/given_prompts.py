"""Prompts that a caller has in memory: texts, rows of token ids, or rows with an answer."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.text.documents import DatasetRow, DocumentCounts
from selfrepair.ingest.text.packing import begin_token
from selfrepair.ingest.text.sources import ANSWER, TEXT, TOKENS, read_rows
from selfrepair.ingest.text.tokenizing import SpecialTokens, encode
from selfrepair.warehouse.errors import SelfRepairError

PROMPTS = "prompts"
"""What errors call the rows."""


def given_prompts(
    prompts: object, tokenizer: PreTrainedTokenizerBase | None, counts: DocumentCounts | None = None
) -> list[DatasetRow]:
    """The prompts as rows of a dataset, in their order.

    `prompts` is a [prompt, seq] array or tensor of ids, or an iterable of texts, of ids, or of rows as a .jsonl file has
    them (`text` or `tokens`, and `answer`, `foil`). A text becomes BOS and its tokens, whole; those that spell special tokens
    are counted in `counts`. Raises SelfRepairError for anything else, and for texts without a tokenizer.
    """
    if isinstance(prompts, Mapping):
        raise SelfRepairError(
            f"prompts is a {type(prompts).__name__}. Pass the ids alone, without padding: "
            'tokenizer(texts)["input_ids"], or the texts themselves and tokenizer=.'
        )
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise SelfRepairError(f"prompts is one {type(prompts).__name__}. Pass a list of prompts, such as [prompt].")
    plain = list(_plain(prompts))
    if not plain:
        raise SelfRepairError("prompts is empty. Pass one or more.")
    counts = counts or DocumentCounts()
    special = None if tokenizer is None else SpecialTokens(tokenizer)
    rows = [_row(number, prompt, tokenizer, special, counts) for number, prompt in enumerate(plain)]
    return list(read_rows(PROMPTS, rows, TEXT))


def _row(
    number: int,
    prompt: Any,
    tokenizer: PreTrainedTokenizerBase | None,
    special: SpecialTokens | None,
    counts: DocumentCounts,
) -> dict[str, Any]:
    if isinstance(prompt, str):
        prompt = {TEXT: prompt}
    if not isinstance(prompt, Mapping):
        return {TOKENS: _ids(number, prompt)}
    if prompt.get(TOKENS) is not None:  # with a text beside them, `read_rows` refuses it
        return {**prompt, TOKENS: _ids(number, prompt[TOKENS])}
    if prompt.get(TEXT) is None:
        return dict(prompt)
    if tokenizer is None or special is None:
        raise SelfRepairError(f"prompts[{number}] is text. Pass the model's tokenizer=, or token ids.")
    if prompt.get(ANSWER) is not None:
        return dict(prompt)
    (ids,) = encode([prompt[TEXT]], tokenizer)
    special.count(number, ids, counts)
    return {TOKENS: [begin_token(tokenizer), *ids]}


def _ids(number: int, prompt: Any) -> list[int]:
    try:
        tokens = list(_plain(prompt))
        if any(isinstance(token, bool) for token in tokens):
            raise TypeError("bool is not a token id")
        return [operator.index(token) for token in tokens]
    except TypeError as error:
        raise SelfRepairError(
            f"prompts[{number}] is not a list of token ids ({error}). Pass a list of lists of whole numbers, a [prompt, seq] "
            "tensor of them, or texts and tokenizer=."
        ) from error


def _plain(values: Any) -> Any:
    """Tensors and arrays as lists."""
    return values.tolist() if hasattr(values, "tolist") else values
