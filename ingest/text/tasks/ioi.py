"""Indirect object identification (IOI): two people are named, and one of them gives something to the other.

Wang et al., "Interpretability in the Wild" (2022) made the task known; sentences and words here are this project's own.
"""

import random
from collections.abc import Iterator, Sequence

from selfrepair.ingest.text.tasks.vocabulary import Row, Vocabulary, different, templates_for, text_of

TEMPLATES = (
    "When {first} and {second} met near the {place}, {giver} handed a {thing} to",
    "After {first} and {second} had walked past the {place}, {giver} passed a {thing} to",
    "While {first} and {second} were waiting at the {place}, {giver} offered a {thing} to",
    "As soon as {first} and {second} reached the {place}, {giver} brought a {thing} to",
)
NAMES = """
Adam Alan Albert Alex Alice Amy Andrew Anna Anne Arthur Ben Brian Carl Charles Chris Claire Daniel David Edward Emily
Emma Eric Frank Fred George Grace Harry Helen Henry Howard Jack James Jane Jason Jim John Joseph Julia Karen Kate
Kelly Kevin Laura Lisa Louis Lucy Maria Mark Martin Mary Matt Michael Nick Oliver Patrick Paul Peter Rachel Richard
Robert Roger Ruth Sam Sarah Scott Simon Steve Susan Thomas Tim Tom Victor Walter William
"""
PLACES = ("store", "school", "park", "house", "office", "station", "garden", "hospital", "library", "church")
THINGS = ("drink", "book", "ring", "ball", "key", "bag", "letter", "coat", "ticket", "phone")


def ioi_rows(vocabulary: Vocabulary, n: int, seed: int, names: Sequence[str] = ()) -> Iterator[Row]:
    """`n` different rows of `text`, `answer` (who receives) and `foil` (who gives), balanced over templates and over who
    is named first; `names` in the place of `NAMES`.

    Every name, place and thing is one token of the tokenizer, so that the rows of one template have one length. Raises
    SelfRepairError for a vocabulary with too few of them.
    """
    people, places, things = vocabulary.need(
        {"names": (names or NAMES.split(), 2), "places": (PLACES, 1), "things": (THINGS, 1)},
        "--names FILE takes names of your own, one a line. ",
    )
    templates = templates_for(n, TEMPLATES)
    draw = random.Random(seed)

    def row(number: int) -> Row:
        giver, receiver = draw.sample(people, 2)
        first, second = (giver, receiver) if number // len(templates) % 2 else (receiver, giver)
        words = {"place": draw.choice(places), "thing": draw.choice(things)}
        text = templates[number % len(templates)].format(first=first, second=second, giver=giver, **words)
        return {"text": text, "answer": f" {receiver}", "foil": f" {giver}"}

    yield from different(n, row, text_of, vocabulary)
