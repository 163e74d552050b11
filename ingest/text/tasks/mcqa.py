"""Multiple choice: four words under four letters, one of them of the kind that is asked for."""

import random
from collections.abc import Iterator

from selfrepair.ingest.text.tasks.vocabulary import Row, Vocabulary, different, text_of

TEMPLATE = "Question: Which of these is {kind}?\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nThe answer is"
KINDS = {
    "an animal": "horse dog cat cow bird fish sheep lion bear mouse pig wolf",
    "a color": "red blue green white black yellow brown purple orange pink",
    "a number": "two three four five six seven eight nine ten twenty",
    "a part of the body": "hand foot head arm leg eye ear nose mouth finger",
    "a building": "house church school tower castle hotel temple hospital",
    "a family member": "mother father sister brother son daughter uncle aunt wife husband",
    "a day of the week": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "a country": "France Germany Spain Italy China Japan India Canada Mexico Egypt",
}
LETTERS = "ABCD"
_FEWEST_WORDS = 2


def mcqa_rows(vocabulary: Vocabulary, n: int, seed: int) -> Iterator[Row]:
    """`n` different rows of `text`, `answer` (the letter of the word that is of the kind) and `foil` (another letter).

    The right letter goes around, so that each is right equally often; the words are single tokens. Raises SelfRepairError
    for a vocabulary whose letters are several tokens, or that has too few words of two kinds or more.
    """
    letters = vocabulary.after("The answer is", [f" {letter}" for letter in LETTERS])
    if len(letters) < len(LETTERS):
        raise vocabulary.cannot_carry(
            f"{len(letters)} of the letters {', '.join(LETTERS)} are single tokens after a space"
        )
    words = {kind: vocabulary.single(found.split()) for kind, found in KINDS.items()}
    asked = [kind for kind, found in words.items() if len(found) >= _FEWEST_WORDS]
    if len(asked) < _FEWEST_WORDS:
        # every kind is asked for, so that all the words that are missing are named
        vocabulary.need({f"words for {kind}": (found.split(), _FEWEST_WORDS) for kind, found in KINDS.items()})
    draw = random.Random(seed)

    def row(number: int) -> Row:
        kind = asked[number // len(LETTERS) % len(asked)]
        right = number % len(LETTERS)
        wrong = draw.sample([word for other in asked if other != kind for word in words[other]], len(LETTERS) - 1)
        options = [*wrong[:right], draw.choice(words[kind]), *wrong[right:]]
        text = TEMPLATE.format(kind=kind, **dict(zip("abcd", options, strict=True)))
        other = draw.choice([letter for letter in range(len(LETTERS)) if letter != right])
        return {"text": text, "answer": letters[right], "foil": letters[other]}

    yield from different(n, row, text_of, vocabulary)
