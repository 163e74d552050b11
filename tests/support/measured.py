"""A small warehouse file with a run that measured every mechanism, and one that measured none."""

from pathlib import Path

from support.fabricate import fabricate
from support.loaded import stored

WITHOUT = "other-model"
"""The model whose run measured effects alone; the other run is of `tiny-model`."""


def measured(folder: Path) -> Path:
    """A file `w.duckdb` in `folder`: 3 layers, 4 heads and 12 prompts of 9 tokens in each of the two runs."""
    size = {"prompts_per_unit": 6, "seq_len": 9}
    return stored(
        folder,
        fabricate("without", model=WITHOUT, seed=4, **size),
        fabricate("with", mechanisms=True, **size),
    )
