"""What a dataset yields: documents of text, rows of token ids, or prompts with an answer; and counts of them."""

from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias


@dataclass(frozen=True)
class Document:
    """A document of text, or a chunk of one; `number` is the document's place in its dataset, from 0.

    `more` means that the next one is the rest of the same text.
    """

    holds: ClassVar[str] = "`text`"

    number: int
    text: str
    more: bool = False


@dataclass(frozen=True)
class TokenRow:
    """A prompt given as token ids, measured unchanged: nothing is prepended and nothing is packed."""

    holds: ClassVar[str] = "`tokens`"

    number: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class AnswerRow:
    """A prompt, as text or token ids, its correct `answer`, and a `foil` to compare that with; both words or token ids."""

    holds: ClassVar[str] = "`answer`"

    number: int
    prompt: str | tuple[int, ...]
    answer: str | int
    foil: str | int | None


DatasetRow: TypeAlias = Document | TokenRow | AnswerRow


@dataclass
class DocumentCounts:
    """Counts of documents that were read but gave no prompt (`empty` ones, and those whose length no other has), and of those
    whose text spells special tokens; `begun` with the one that begins every prompt.
    """

    empty: int = 0
    without_partner: int = 0
    with_special_tokens: int = 0
    begun: int = 0
    special_tokens: set[str] = field(default_factory=set)

    def sentences(self) -> tuple[str, ...]:
        """What the user is told about them."""
        notes = []
        if self.empty:
            notes.append(f"{_documents(self.empty)} skipped: no text.")
        if self.without_partner:
            notes.append(
                f"{_documents(self.without_partner)} skipped: resample ablation needs another one of the same length."
            )
        if self.special_tokens:
            names, one = ", ".join(sorted(self.special_tokens)), self.with_special_tokens == 1
            begun = f" {self.begun:,} of them begin with the token that begins every prompt, which is then there twice."
            notes.append(
                f"{_documents(self.with_special_tokens)} spell{'s' * one} special tokens ({names}), read as such."
                f"{begun if self.begun else ''} Take them out of the text unless they are meant."
            )
        return tuple(notes)


def _documents(count: int) -> str:
    return f"{count:,} document{'s' * (count > 1)}"
