"""What a dataset yields: documents of text, rows that are tokens already, or prompts with an answer."""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias


@dataclass(frozen=True)
class Document:
    """A document of text, or a piece of one; `number` is the document's place in its dataset, from 0.

    Where there is `more`, the next one is the rest of the same text.
    """

    holds: ClassVar[str] = "`text`"

    number: int
    text: str
    more: bool = False


@dataclass(frozen=True)
class TokenRow:
    """A prompt given as token ids, measured as it is: nothing is prepended and nothing is packed."""

    holds: ClassVar[str] = "`tokens`"

    number: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class AnswerRow:
    """A prompt, as text or token ids, after which the `answer` is asked for, above the `foil` if there is one; both are
    words or token ids.
    """

    holds: ClassVar[str] = "`answer`"

    number: int
    prompt: str | tuple[int, ...]
    answer: str | int
    foil: str | int | None


DatasetRow: TypeAlias = Document | TokenRow | AnswerRow
