"""Which prompt is whose partner in resample ablation: seeded, fixed, and never the prompt itself."""

from collections import defaultdict
from collections.abc import Sequence
from random import Random


class NoPartnerError(ValueError):
    """A prompt has no other prompt of its length; `prompt` is its index."""

    def __init__(self, prompt: int, length: int) -> None:
        super().__init__(f"prompt {prompt} is the only one of {length} tokens")
        self.prompt = prompt
        self.length = length


def pair(documents: Sequence[int], lengths: Sequence[int], seed: int) -> list[int]:
    """The partner of every prompt: of the same length, never itself, from another document where there is one.

    Within a length the pairing is a permutation (every prompt is a partner once) unless one document holds more than half
    of the prompts. It depends on the prompts and the seed alone. Raises NoPartnerError.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    for prompt, length in enumerate(lengths):
        groups[length].append(prompt)
    partners = [-1] * len(lengths)
    random = Random(seed)
    for length in sorted(groups):
        if len(groups[length]) == 1:
            raise NoPartnerError(groups[length][0], length)
        _pair_group(groups[length], documents, random, partners)
    return partners


def unchanged_by_partner(tokens: Sequence[Sequence[int]], partners: Sequence[int]) -> list[int]:
    """The prompts that resample ablation leaves as they are: the same as their partner but for the last token, a target."""
    return [prompt for prompt, partner in enumerate(partners) if tokens[prompt][:-1] == tokens[partner][:-1]]


def _pair_group(prompts: list[int], documents: Sequence[int], random: Random, partners: list[int]) -> None:
    by_document: dict[int, list[int]] = defaultdict(list)
    for prompt in prompts:
        by_document[documents[prompt]].append(prompt)
    order = sorted(by_document)
    random.shuffle(order)
    ordered = []
    for document in order:
        random.shuffle(by_document[document])
        ordered.extend(by_document[document])
    # Laid out document after document, a shift by the largest document's size leaves every document...
    largest = max(len(found) for found in by_document.values())
    shift = largest if largest < len(ordered) else 1
    for position, prompt in enumerate(ordered):
        partners[prompt] = ordered[(position + shift) % len(ordered)]
    # ...unless it wraps around into one that holds more than half of all prompts.
    for document, own in by_document.items():
        lonely = [prompt for prompt in own if documents[partners[prompt]] == document]
        others = [prompt for prompt in ordered if documents[prompt] != document] if lonely else []
        for prompt in lonely if others else []:
            partners[prompt] = random.choice(others)
