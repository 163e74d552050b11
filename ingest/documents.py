"""What a dataset yields: documents of text, or rows that are tokens already."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A document of text, or a piece of one; `number` is the document's place in its dataset, from 0.

    Where there is `more`, the next one is the rest of the same text.
    """

    number: int
    text: str
    more: bool = False


@dataclass(frozen=True)
class TokenRow:
    """A prompt given as token ids, measured as it is: nothing is prepended and nothing is packed."""

    number: int
    tokens: tuple[int, ...]
