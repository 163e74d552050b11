"""Prompts for indirect object identification (IOI): two people are named, and one of them gives something to the other.

Wang et al., "Interpretability in the Wild" (2022) made the task known; sentences and words here are this project's own.
"""

import random
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from selfrepair.ingest.text.tokenizing import encode
from selfrepair.warehouse.errors import SelfRepairError

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

MOST_TRIES = 1000


def ioi_rows(tokenizer: PreTrainedTokenizerBase, model: str, *, n: int, seed: int) -> Iterator[dict[str, str]]:
    """`n` different rows of `text`, `answer` (who receives) and `foil` (who gives), balanced over templates and over who
    is named first.

    Every name, place and thing is one token of the tokenizer, so that the rows of one template have one length. Raises
    SelfRepairError for a vocabulary with too few of them.
    """
    names, places, things = (_single(tokenizer, words) for words in (NAMES.split(), PLACES, THINGS))
    if len(names) < 2 or not places or not things:
        raise SelfRepairError(
            f"the vocabulary of '{model}' cannot carry the task: {len(names)} of {len(NAMES.split())} names, {len(places)} of "
            f"{len(PLACES)} places and {len(things)} of {len(THINGS)} things are single tokens, and it needs 2, 1 and 1. "
            'Choose another model, or write rows of your own: {"text": ..., "answer": ..., "foil": ...}.'
        )
    templates = TEMPLATES[: max(1, min(len(TEMPLATES), n // 2))]  # two rows of a length at least: they are partners
    draw, seen = random.Random(seed), set[str]()
    for number in range(n):
        template = templates[number % len(templates)]
        for _ in range(MOST_TRIES):
            giver, receiver = draw.sample(names, 2)
            named = (giver, receiver) if number // len(templates) % 2 else (receiver, giver)
            words = {"place": draw.choice(places), "thing": draw.choice(things)}
            text = template.format(first=named[0], second=named[1], giver=giver, **words)
            if text not in seen:
                break
        else:
            raise SelfRepairError(
                f"the tokenizer of '{model}' has too few single-token words for {n} different prompts. Use --n {number}."
            )
        seen.add(text)
        yield {"text": text, "answer": f" {receiver}", "foil": f" {giver}"}


def _single(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[str]:
    """The words that are one token after another word."""
    alone, *ids = encode(["so", *(f"so {word}" for word in words)], tokenizer)
    return [word for word, found in zip(words, ids, strict=True) if found[:-1] == alone]
