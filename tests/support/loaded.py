"""A small warehouse file made as every real one is: part files, loaded, with views and summaries."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from selfrepair.warehouse.load.loader import load
from support.fabricate import fabricate


def loaded(folder: Path) -> Path:
    """A file `w.duckdb` in `folder`: one run of `tiny-model` with 3 layers, 4 heads, 6 prompts, 864 measured rows."""
    return Path(shutil.copy(Path(_original().name) / "w.duckdb", folder))


@cache
def _original() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="selfrepair-test-")
    root = Path(folder.name) / "parts"
    fabricate().write(root)
    load(Path(folder.name) / "w.duckdb", root)
    return folder
