"""Text that every machine has: the standard library of the running interpreter, one document a file.

The documents fall into two fixed splits by a hash of their name, so that a model trained on one split can be measured
on text it has never seen, whichever Python runs it.
"""

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

from selfrepair.ingest.text.documents import Document
from selfrepair.warehouse.errors import SelfRepairError

SPLITS = ("train", "heldout")
HELDOUT_SHARE = 0.1
CHUNK_CHARACTERS = 2000

_SKIPPED_FOLDERS = {
    *("site-packages", "dist-packages", "_bundled"),  # not the library
    *("test", "tests", "idle_test"),  # not on every machine
    "encodings",  # generated tables of characters
}
_SKIPPED_PREFIXES = ("_sysconfigdata", "config-")  # generated on the machine that built the interpreter
_TOPICS = "pydoc_data/topics.py"


def split_of(name: str) -> str:
    """The split a document belongs to, decided by its name alone."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "heldout" if share < HELDOUT_SHARE else "train"


def documents(split: str) -> Iterator[tuple[str, str]]:
    """The name and text of every document of `split` ("train" or "heldout"), ordered by name."""
    if split not in SPLITS:
        raise SelfRepairError(f"the standard library has no split '{split}'. Choose one of {', '.join(SPLITS)}.")
    return ((name, text) for name, text in _all_documents() if split_of(name) == split)


def interleaved_chunks(split: str) -> Iterator[Document]:
    """The text of the split, interleaved: the first chunk of every document, then the second of every document, and so on.

    So the first prompts, however few, come from many documents. Chunks end at a line's end and keep the number of their
    document.
    """
    return _interleaved(documents(split))


def whole_documents(split: str) -> Iterator[Document]:
    """The same documents uncut, one after the other."""
    return (Document(number, text) for number, (_, text) in enumerate(documents(split)))


def _interleaved(documents: Iterable[tuple[str, str]]) -> Iterator[Document]:
    rest = {number: text for number, (_, text) in enumerate(documents)}
    while rest:
        for number, text in list(rest.items()):
            end = text.rfind("\n", 0, CHUNK_CHARACTERS) + 1 if len(text) > CHUNK_CHARACTERS else len(text)
            end = end or CHUNK_CHARACTERS
            yield Document(number, text[:end])
            if end < len(text):
                rest[number] = text[end:]
            else:
                del rest[number]


def _all_documents() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        parts = name.split("/")
        if _SKIPPED_FOLDERS.intersection(parts) or any(part.startswith(_SKIPPED_PREFIXES) for part in parts):
            continue
        if name == _TOPICS:
            for topic in sorted(topics):
                yield f"{name}#{topic}", topics[topic]
        else:
            text = path.read_text(encoding="utf-8", errors="replace")
            if text.strip():
                yield name, text
