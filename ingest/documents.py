"""What a dataset yields: documents of text, or rows that are tokens already."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """One document of text; `name` tells it from every other document of its dataset."""

    name: str
    text: str


@dataclass(frozen=True)
class TokenRow:
    """A prompt given as token ids, measured as it is: nothing is prepended and nothing is packed."""

    name: str
    tokens: tuple[int, ...]
