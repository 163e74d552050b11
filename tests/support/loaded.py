"""A small warehouse file made as every real one is: part files, loaded, with views and summaries."""

from functools import partial
from pathlib import Path

from selfrepair.warehouse.load.loader import load
from support.empty import installed
from support.fabricate import FabricatedRun, fabricate
from support.templates import copied, digest

load_rows = partial(load, after_load=False)
"""Load without making views and summaries, for tests that read none: it takes a quarter of the time."""


def loaded(folder: Path) -> Path:
    """A file `w.duckdb` in `folder`: one run of `tiny-model` with 3 layers, 4 heads, 6 prompts, 864 measured rows."""
    return stored(folder, fabricate())


def stored(folder: Path, *runs: FabricatedRun) -> Path:
    """A file `w.duckdb` in `folder` with these runs, numbered from 1 as they are given."""

    def make(template: Path) -> None:
        db = installed(template)  # making all views anew takes longer than everything else
        for number, run in enumerate(runs, start=1):
            parts = run.write(template / "parts").root
            load(db, parts, after_load=number == len(runs))

    return copied(folder, digest(*runs), make)
