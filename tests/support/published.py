"""Runs made up in the likeness of the paper's own numbers, so that they can be compared with them."""

import csv
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np

from selfrepair.warehouse.database import migrate
from support.fabricate import FabricatedRun, FabricatedUnit, fabricate
from support.loaded import stored

HEADS = Path(migrate.__file__).parents[1] / "published" / "published_head_repair.csv"
SHAPES = {"gpt2": (12, 12), "EleutherAI/pythia-160m": (12, 12)}
"""Layers and heads of published models, by a name on the hub."""

EARLY, FINAL, NOT_PUBLISHED = 1, 2, 3
"""Runs of `compared`: pythia-160m at step 1000, its final weights, and a small model."""

STEP = 1000
PROMPTS, POSITIONS = 7, 10
_PARTS = ("repair_layernorm", "repair_attention", "repair_mlp")


def compared(folder: Path) -> Path:
    """A file `w.duckdb` in `folder`: two checkpoints of pythia-160m and a model that was never published."""
    pythia = "EleutherAI/pythia-160m"
    return stored(
        folder,
        as_published("early", pythia, checkpoint=STEP, scale=0.25, spread=0.2),
        as_published("final", pythia, spread=0.2),
        fabricate("small", seed=8),
    )


def runs_of(con: duckdb.DuckDBPyConnection, view: str) -> set[int]:
    """The runs that have rows in a view."""
    return {run_id for (run_id,) in con.execute(f"SELECT DISTINCT run_id FROM {view}").fetchall()}


def as_published(
    run_key: str,
    model: str = "gpt2",
    *,
    spread: float = 0.05,
    scale: float = 1.0,
    checkpoint: int | None = None,
    seed: int = 11,
) -> FabricatedRun:
    """A run whose rows lie around the published means (top 2 %) of their head, `spread` logits to either side.

    `scale` multiplies what is given back. Resample ablation alone, 14 prompts, each a document of its own; 140 rows a head.
    """
    n_layers, n_heads = SHAPES[model]
    run = fabricate(
        run_key,
        n_units=2,
        prompts_per_unit=PROMPTS,
        seq_len=POSITIONS + 1,
        n_layers=n_layers,
        n_heads=n_heads,
        ablations=("resample",),
        model=model,
        seed=seed,
    )
    means = _means(model)
    rng = np.random.default_rng(seed)
    return replace(
        run,
        record=replace(
            run.record,
            given_heads=(),
            model=replace(run.record.model, checkpoint=checkpoint, revision=None, d_vocab=50_304),
        ),
        units=[_around(unit, means, spread, scale, rng) for unit in run.units],
    )


def _means(model: str) -> dict[str, np.ndarray]:
    """The published means of the model's heads by name, an array of layers x heads each."""
    hub_name = model.rpartition("/")[2]
    means = {name: np.zeros(SHAPES[model]) for name in ("direct_effect", "ablated_direct_effect", *_PARTS)}
    with HEADS.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if (row["hub_name"], row["population"], row["published_run"]) == (hub_name, "top2", "default"):
                for name, values in means.items():
                    values[int(row["layer"]), int(row["head"])] = float(row[name])
    return means


def _around(
    unit: FabricatedUnit, means: dict[str, np.ndarray], spread: float, scale: float, rng: np.random.Generator
) -> FabricatedUnit:
    def drawn(name: str, factor: float = 1.0) -> np.ndarray:
        mean = means[name].reshape(-1, 1)  # rows are laid out by layer, head
        noise = rng.normal(0, spread, (mean.size, PROMPTS * POSITIONS)) * (mean != 0)
        return np.round(factor * mean + noise, 4).ravel()

    effects = {name: drawn(name) for name in ("direct_effect", "ablated_direct_effect")}
    effects |= {name: drawn(name, scale) for name in _PARTS}
    removed = effects["direct_effect"] - effects["ablated_direct_effect"]
    effects["logit_change"] = sum(effects[name] for name in _PARTS) - removed
    effects["ln_scale_ratio"] = np.round(rng.normal(1.02, 0.02, len(removed)), 4)
    return replace(
        unit,
        measurements=unit.measurements | {name: values.astype(np.float32) for name, values in effects.items()},
        prompts=unit.prompts | {"document_id": unit.prompts["prompt_id"]},
    )
