"""Subject-verb agreement: the verb has the number of its subject, whatever noun stands nearer.

Linzen et al., "Assessing the Ability of LSTMs to Learn Syntax-Sensitive Dependencies" (2016) made the task known; sentences and
words here are this project's own.
"""

import random
from collections.abc import Iterator

from selfrepair.ingest.text.tasks.vocabulary import Row, Vocabulary, different, templates_for, text_of

TEMPLATES = (
    "The {subject} near the {other}",
    "Yesterday we heard that the {subject} behind the {other}",
    "I know that the {subject} next to the {other}",
    "Everyone says that the {subject} beside the {other}",
)
NOUNS = """
book books car cars dog dogs cat cats girl girls boy boys house houses tree trees table tables door doors teacher teachers
doctor doctors student students window windows picture pictures chair chairs horse horses bird birds river rivers road roads
friend friends brother brothers sister sisters ship ships train trains tower towers
"""
VERBS = (("is", "are"), ("was", "were"), ("has", "have"))


def agreement_rows(vocabulary: Vocabulary, n: int, seed: int) -> Iterator[Row]:
    """`n` different rows of `text`, `answer` (the verb in the subject's number) and `foil` (in the other number).

    Subjects are singular and plural equally often, each with a nearer noun of either number; nouns and verbs are single
    tokens. Raises SelfRepairError for a vocabulary with fewer than two nouns, or no verb, that is so in both numbers.
    """
    names = NOUNS.split()
    vocabulary.need({"nouns": (names, 4), "verbs": ([verb for pair in VERBS for verb in pair], 2)})
    single = set(vocabulary.single([*names, *(verb for pair in VERBS for verb in pair)]))
    nouns = [pair for pair in zip(names[::2], names[1::2], strict=True) if single.issuperset(pair)]
    verbs = [pair for pair in VERBS if single.issuperset(pair)]
    if len(nouns) < 2 or not verbs:
        raise vocabulary.cannot_carry(
            f"{len(nouns)} nouns and {len(verbs)} verbs are single tokens in both numbers, and it needs 2 and 1"
        )
    templates = templates_for(n, TEMPLATES)
    draw = random.Random(seed)

    def row(number: int) -> Row:
        many, nearer_many = number // len(templates) % 2, number // len(templates) // 2 % 2
        subject, other = draw.sample(nouns, 2)
        verb = draw.choice(verbs)
        text = templates[number % len(templates)].format(subject=subject[many], other=other[nearer_many])
        return {"text": text, "answer": f" {verb[many]}", "foil": f" {verb[1 - many]}"}

    yield from different(n, row, text_of, vocabulary)
