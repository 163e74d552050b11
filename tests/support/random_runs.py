"""Measured rows at random for the tests of views: ties, zeros and negative effects, odd shapes, a failed run."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import polars as pl

from selfrepair.warehouse.schema import EFFECT_STEP

STEPS = round(1 / EFFECT_STEP)
FAILED = 5
"""The run among `random_runs` that is to be filled as a failed one."""

ABLATIONS = ("resample", "mean", "zero")
_MEASURED = (
    "direct_effect",
    "ablated_direct_effect",
    "logit_change",
    "repair_layernorm",
    "repair_attention",
    "repair_mlp",
    "repair_post_norm",
    "ln_scale_ratio",
)
ROW_NUMBERS = (*_MEASURED, "removed_effect", "self_repair")
"""Every number of a row of the view `self_repair` that is a measurement or follows from one."""


def random_runs(seed: int, step: int = 1) -> list[dict[str, Any]]:
    """Rows of measurements of five runs, as `fill` takes them; effects are whole multiples of `step` * 1e-4.

    Run 1 has five heads, three ablations and top sets of several rows; run 2 a single head; run 3 a single prompt, run 4
    nothing but first positions; run 5 is for a failed one. The models of
    the runs with odd numbers have post-norms. A step of 625 makes every sum of effects exact in binary.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    rows += _run(rng, 1, [(0, 0), (0, 1), (2, 1), (3, 0), (3, 1)], ABLATIONS, 4, 61, step)
    rows += _run(rng, 2, [(1, 1)], ("mean", "zero"), 3, 40, step)
    rows += _run(rng, 3, [(0, 1), (2, 0)], ("resample", "zero"), 1, 23, step)
    rows += _run(rng, 4, [(1, 0), (1, 1)], ("mean",), 3, 1, step)
    rows += _run(rng, FAILED, [(1, 0)], ("mean",), 2, 3, step)
    return [rows[i] for i in rng.permutation(len(rows))]


def _run(
    rng: np.random.Generator,
    run_id: int,
    heads: Iterable[tuple[int, int]],
    ablations: Iterable[str],
    n_prompts: int,
    n_positions: int,
    step: int,
) -> Iterator[dict[str, Any]]:
    of_part = np.random.default_rng(run_id)
    drawn = [name for name in _MEASURED if name != "repair_post_norm"]
    for number, (layer, head) in enumerate(heads):
        spread = (3, 400, 30)[number % 3]  # few different values: many ties and zeros
        for prompt_id in range(n_prompts):
            for pos in range(n_positions):
                direct_effect = int(rng.integers(-spread, spread + 1))
                for ablation in ablations:
                    effects = dict(zip(drawn, map(int, rng.integers(-spread, spread + 1, len(drawn))), strict=True))
                    effects["direct_effect"] = direct_effect
                    if run_id % 2:
                        effects["repair_post_norm"] = int(of_part.integers(-spread, spread + 1))
                    yield {
                        "run_id": run_id,
                        "ablation": ablation,
                        "prompt_id": prompt_id,
                        "pos": pos,
                        "layer": layer,
                        "head": head,
                        **{name: value * step / STEPS for name, value in effects.items()},
                    }


def with_repair(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """The rows of runs that did not fail, in whole steps of 1e-4 as integers, with removed_effect and self_repair."""
    in_steps = [pl.col(name).mul(STEPS).round().cast(pl.Int64) for name in _MEASURED]
    frame = pl.DataFrame(list(rows)).filter(pl.col("run_id") != FAILED).with_columns(in_steps)
    removed = pl.col("direct_effect") - pl.col("ablated_direct_effect")
    return frame.with_columns(removed.alias("removed_effect"), (pl.col("logit_change") + removed).alias("self_repair"))


def summed(name: str) -> pl.Expr:
    """The sum of a column; NULL where every value is, as in SQL."""
    return pl.when(pl.col(name).count() > 0).then(pl.col(name).sum())


def in_logits(steps: Any) -> Any:
    """Whole steps as the 32-bit floats that the warehouse stores, widened to 64 bits."""
    return (np.asarray(steps, dtype=np.float64) / STEPS).astype(np.float32).astype(np.float64)
