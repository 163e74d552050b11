"""A small warehouse file with a run that measured every mechanism, and one that measured none."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from support.fabricate import fabricate
from support.pages import stored

WITHOUT = "other-model"
"""The model whose run measured effects alone; the other run is of `tiny-model`."""


def measured(folder: Path) -> Path:
    """A file `w.duckdb` in `folder`: 3 layers, 4 heads and 12 prompts of 9 tokens in each of the two runs."""
    return Path(shutil.copy(Path(_original().name) / "w.duckdb", folder))


@cache
def _original() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="selfrepair-test-")
    size = {"prompts_per_unit": 6, "seq_len": 9}
    stored(
        Path(folder.name),
        fabricate("without", model=WITHOUT, seed=4, **size),
        fabricate("with", mechanisms=True, **size),
    )
    return folder
