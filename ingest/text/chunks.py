"""Long documents in pieces, cut where a tokenizer cuts, too: neither memory nor time grows with the longest document."""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from selfrepair.ingest.text.documents import Document

PIECE_CHARACTERS = 2**18
"""As long as a piece is at most; shorter documents stay whole."""

_BORDERS = (
    # A space belongs to the word after it, in byte-level and SentencePiece vocabularies alike: no token reaches across.
    re.compile(r".+(?= \S)", re.DOTALL),
    # Without spaces, as in Chinese or in tables: lines, then any gap. Here one token of a cut may differ.
    re.compile(r".+\n(?=\S)", re.DOTALL),
    re.compile(r".+(?=\s\S)", re.DOTALL),
)


def in_pieces(
    document: Document, blocks: Iterable[str] | None = None, *, most: int | None = None
) -> Iterator[Document]:
    """The document, or the one whose text is `blocks` joined, in pieces that follow each other.

    They have `most` characters at most, `PIECE_CHARACTERS` unless told otherwise.
    """
    blocks = [document.text] if blocks is None else blocks
    texts: Iterator[str | None] = itertools.chain(_cut(blocks, most or PIECE_CHARACTERS), [None])
    for text, following in itertools.pairwise(texts):
        assert text is not None, "the last one alone is None"
        yield replace(document, text=text, more=document.more or following is not None)


def joined(documents: Iterable[Document]) -> Iterator[Document]:
    """The documents whole again."""
    held: list[str] = []
    for document in documents:
        held.append(document.text)
        if not document.more:
            yield replace(document, text="".join(held))
            held.clear()


def _cut(blocks: Iterable[str], most: int) -> Iterator[str]:
    """The pieces of a text; how it lies in blocks does not matter."""
    rest = ""
    for block in blocks:
        rest += block
        start = 0
        while len(rest) - start > most:
            end = _border(rest, start, start + most)
            yield rest[start:end]
            start = end
        rest = rest[start:]
    yield rest


def _border(text: str, start: int, end: int) -> int:
    """Where to cut: the last good border of the window, its end where it has none."""
    found = (border.match(text, start, end + 1) for border in _BORDERS)
    return next((match.end() for match in found if match), end)
