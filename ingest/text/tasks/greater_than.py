"""Greater-than: something lasts from one year to a later one.

Hanna et al., "How does GPT-2 compute greater-than?" (2023) made the task known; sentences and words here are this
project's own.
"""

import random
from collections.abc import Iterator

from selfrepair.ingest.text.tasks.vocabulary import Row, Vocabulary, different, templates_for, text_of

TEMPLATES = (
    "The {event} began in the year {begin} and ended in the year {end}",
    "Their {event} went on from the year {begin} until the year {end}",
    "In the year {begin} the {event} was announced, and it was over in the year {end}",
)
EVENTS = ("war", "project", "trial", "journey", "study", "program", "campaign", "construction", "conflict", "search")
YEARS = range(1202, 1998)
_MOST_DIGITS = 4


def greater_than_rows(vocabulary: Vocabulary, n: int, seed: int) -> Iterator[Row]:
    """`n` different rows of `text`, `answer` (the last digits of a later year) and `foil` (those of an earlier one).

    The text ends within the second year, where the tokenizer cuts years: before its last two digits, its last one, or all.
    Years whose last token has as many digits as most are used. Raises SelfRepairError for a vocabulary that cuts none so.
    """
    (events,) = vocabulary.need({"events": (EVENTS, 1)})
    digits, endings = _cut(vocabulary)
    templates = templates_for(n, TEMPLATES)
    draw = random.Random(seed)
    prefixes = [prefix for prefix, found in endings.items() if len(found) > 2]

    def row(number: int) -> Row:
        prefix = draw.choice(prefixes)
        earlier, begin, later = sorted(draw.sample(endings[prefix], 3))
        words = {"event": draw.choice(events), "begin": f"{prefix}{begin}", "end": prefix}
        text = templates[number % len(templates)].format(**words)
        space = " " if digits == _MOST_DIGITS else ""
        return {"text": text.rstrip(), "answer": f"{space}{later}", "foil": f"{space}{earlier}"}

    yield from different(n, row, text_of, vocabulary)


def _cut(vocabulary: Vocabulary) -> tuple[int, dict[str, list[str]]]:
    """How many digits the last token of a year has, and by what is before them, those that are one token there."""
    best: tuple[int, dict[str, list[str]]] = (0, {})
    for digits in (2, 1, 3, _MOST_DIGITS):
        endings: dict[str, list[str]] = {}
        for prefix in sorted({str(year)[:-digits] for year in YEARS}):
            years = [str(year)[-digits:] for year in YEARS if str(year)[:-digits] == prefix]
            before, space = (f"the year {prefix}", "") if prefix else ("the year", " ")
            found = vocabulary.after(before, [f"{space}{year}" for year in years])
            endings[prefix] = [ending.strip() for ending in found]
        endings = {prefix: found for prefix, found in endings.items() if len(found) > 2}
        if sum(map(len, endings.values())) > sum(map(len, best[1].values())):
            best = digits, endings
    if not best[1]:
        raise vocabulary.cannot_carry(f"it cuts none of the years {YEARS[0]} to {YEARS[-1]} before a token of digits")
    return best
