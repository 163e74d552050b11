"""Arithmetic: two numbers are added, after three sums that show how it is written."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

from selfrepair.ingest.text.tasks.vocabulary import Row, Vocabulary, different, text_of
from selfrepair.ingest.text.tokenizing import encode

FORMS = (("{a} + {b} =", " "), ("{a}+{b}=", ""))
"""How a sum may be written, and what stands before its result. Tokenizers that take digits one by one need the second."""

SHOTS = 3
HIGHEST = 49
_FEWEST_SUMS = 6


def arithmetic_rows(vocabulary: Vocabulary, n: int, seed: int) -> Iterator[Row]:
    """`n` different rows of `text`, `answer` (the sum) and `foil` (the result of another sum).

    Numbers, sums and the way of writing are those of which the tokenizer makes the most questions of one length whose
    results are one token. Raises SelfRepairError for a vocabulary without single-token results.
    """
    form, space, pairs = max((_askable(vocabulary, *form) for form in FORMS), key=lambda found: len(found[2]))
    if len({a + b for a, b in pairs}) < _FEWEST_SUMS:
        raise vocabulary.cannot_carry(
            f"of the sums of numbers from 1 to {HIGHEST}, {len({a + b for a, b in pairs})} are single tokens after 'a + b =' "
            f"or 'a+b=', and it needs {_FEWEST_SUMS}"
        )
    draw = random.Random(seed)

    def row(_: int) -> Row:
        *shots, (a, b) = draw.sample(pairs, SHOTS + 1)
        other = draw.choice(sorted({x + y for x, y in pairs} - {a + b}))
        lines = [f"{form.format(a=x, b=y)}{space}{x + y}" for x, y in shots]
        text = "\n".join([*lines, form.format(a=a, b=b)])
        return {"text": text, "answer": f"{space}{a + b}", "foil": f"{space}{other}"}

    yield from different(n, row, text_of, vocabulary)


def _askable(vocabulary: Vocabulary, form: str, space: str) -> tuple[str, str, Sequence[tuple[int, int]]]:
    pairs = [(a, b) for a in range(1, HIGHEST + 1) for b in range(1, HIGHEST + 1)]
    questions = [form.format(a=a, b=b) for a, b in pairs]
    whole = [f"{question}{space}{a + b}" for question, (a, b) in zip(questions, pairs, strict=True)]
    asked, answered = encode(questions, vocabulary.tokenizer), encode(whole, vocabulary.tokenizer)
    by_length: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for pair, before, after in zip(pairs, asked, answered, strict=True):
        if after[:-1] == before:
            by_length[len(before)].append(pair)
    return form, space, max(by_length.values(), key=len, default=[])
