"""Which words a tokenizer can carry as single tokens: what every task is made of, since effects are those of one token."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from selfrepair.ingest.text.packing import begin_token
from selfrepair.ingest.text.tokenizing import encode
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = dict[str, Any]
"""A row of a dataset file: `text` or `tokens`, `answer` and `foil`."""

MOST_TRIES = 1000
_MOST_NAMED = 20


class Vocabulary:
    """A tokenizer, asked what is one token after which text. `model` is its name, for errors."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", model: str) -> None:
        self.tokenizer = tokenizer
        self.model = model

    def after(self, before: str, words: Sequence[str]) -> list[str]:
        """Those of `words` that are one token directly after the text `before`, whose own tokens they leave as they are."""
        alone, *found = encode([before, *(before + word for word in words)], self.tokenizer)
        return [
            word for word, ids in zip(words, found, strict=True) if len(ids) == len(alone) + 1 and ids[:-1] == alone
        ]

    def single(self, words: Sequence[str]) -> list[str]:
        """Those of `words` that are one token after another word and a space."""
        spaced = self.after("so", [f" {word}" for word in words])
        return [word[1:] for word in spaced]

    def need(self, wanted: Mapping[str, tuple[Sequence[str], int]], advice: str = "") -> list[list[str]]:
        """The single-token words of each kind; `wanted` has the words of each, and how many it takes.

        Raises SelfRepairError, which names the words that are several tokens, where any kind has too few.
        """
        found = {kind: self.single(words) for kind, (words, _) in wanted.items()}
        if all(len(found[kind]) >= least for kind, (_, least) in wanted.items()):
            return list(found.values())
        said = "; ".join(
            f"{len(found[kind])} of {len(words)} {kind} are single tokens, and it needs {least}{_named(words, found[kind])}"
            for kind, (words, least) in wanted.items()
        )
        raise self.cannot_carry(said, advice)

    def cannot_carry(self, why: str, advice: str = "") -> SelfRepairError:
        """The error that says why this vocabulary has no such task."""
        return SelfRepairError(
            f"the vocabulary of '{self.model}' cannot carry the task: {why}. {advice}Choose another model, or write rows of "
            'your own: {"text": ..., "answer": ..., "foil": ...}.'
        )

    def ordinary(self) -> list[int]:
        """The ids of tokens that are text and not special, in order: each is its own text's only token."""
        special = set(self.tokenizer.all_special_ids)
        ids = [id for id in range(len(self.tokenizer)) if id not in special]
        texts = self.tokenizer.batch_decode([[id] for id in ids])
        again = encode(texts, self.tokenizer)
        return [id for id, text, back in zip(ids, texts, again, strict=True) if text.strip() and back == [id]]

    def begin(self) -> int:
        """The token that a prompt begins with."""
        return begin_token(self.tokenizer)


def different(
    n: int, draw: Callable[[int], Row], key: Callable[[Row], Hashable], vocabulary: Vocabulary
) -> Iterator[Row]:
    """`n` rows from `draw`, which gets the row's number, no two with the same `key`.

    Raises SelfRepairError when the words make no more.
    """
    seen = set()
    for number in range(n):
        for _ in range(MOST_TRIES):
            row = draw(number)
            if key(row) not in seen:
                break
        else:
            raise SelfRepairError(
                f"the tokenizer of '{vocabulary.model}' has too few single-token words for {n:,} different prompts. "
                f"Use --n {max(2, number)}."
            )
        seen.add(key(row))
        yield row


def text_of(row: Row) -> str:
    """The key of rows of text."""
    return str(row["text"])


def templates_for(n: int, templates: Sequence[str]) -> Sequence[str]:
    """As many of `templates` as `n` rows fill twice at least: rows of one template have one length, and are partners."""
    return templates[: max(1, min(len(templates), n // 2))]


def _named(words: Sequence[str], found: Sequence[str]) -> str:
    missing = [word for word in words if word not in found]
    if not missing:
        return ""
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    return f" (several tokens: {', '.join(missing[:_MOST_NAMED])}{more})"
