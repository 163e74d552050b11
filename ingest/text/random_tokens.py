"""Prompts without any text: tokens drawn at random, for what a model does where there is nothing to understand."""

from collections.abc import Iterator

import numpy as np
from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.text.documents import TokenRow
from selfrepair.ingest.text.packing import NONE
from selfrepair.ingest.text.refusals import check_length


def random_rows(
    tokenizer: PreTrainedTokenizerBase | None, *, seq_len: int, d_vocab: int, context: int | None, seed: int
) -> Iterator[TokenRow]:
    """Rows of seq_len tokens, each as likely as any other of the vocabulary, without end.

    They begin with BOS where the tokenizer has one. Unembeddings are often padded with tokens that no text has: where there
    is a tokenizer, only its own are drawn. Raises SelfRepairError for a length that cannot be measured.
    """
    check_length(seq_len, context, NONE)
    begin = () if tokenizer is None or tokenizer.bos_token_id is None else (int(tokenizer.bos_token_id),)
    n_tokens = d_vocab if tokenizer is None else min(d_vocab, len(tokenizer))
    draw = np.random.default_rng(seed)
    number = 0
    while True:
        yield TokenRow(number, (*begin, *draw.integers(n_tokens, size=seq_len - len(begin)).tolist()))
        number += 1
