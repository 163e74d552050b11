"""Induction: tokens drawn at random, and again; what followed a token the first time follows it the second time.

Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021) named the heads that do it.
"""

import random
from collections.abc import Iterator

from selfrepair.ingest.text.tasks.vocabulary import Row, Vocabulary, different

LENGTH = 24
"""Tokens that are drawn, and repeated up to the answer."""


def induction_rows(vocabulary: Vocabulary, n: int, seed: int) -> Iterator[Row]:
    """`n` different rows of `tokens`, `answer` (what followed the last token before) and `foil` (what followed another one).

    Tokens are text of the vocabulary, none twice in its half; each row asks at another place of the second half, so that
    distance and position vary; lengths come in pairs. Raises SelfRepairError for a vocabulary with too few tokens.
    """
    tokens = vocabulary.ordinary()
    if len(tokens) < LENGTH:
        raise vocabulary.cannot_carry(f"{len(tokens)} of its tokens are text, and it needs {LENGTH}")
    draw = random.Random(seed)
    begin = vocabulary.begin()

    def row(number: int) -> Row:
        drawn = draw.sample(tokens, LENGTH)
        last = LENGTH // 4 + number // 2 % (LENGTH // 2)  # of the second half
        other = draw.choice([at for at in range(1, LENGTH) if at != last + 1])
        return {"tokens": [begin, *drawn, *drawn[: last + 1]], "answer": drawn[last + 1], "foil": drawn[other]}

    yield from different(n, row, lambda row: tuple(row["tokens"]), vocabulary)
