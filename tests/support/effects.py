"""Measured rows drawn at random in whole steps of 1e-4, and the populations they fall into, worked out row by row."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

Row = dict[str, Any]
Group = tuple[Any, ...]

STEPS = 10_000
"""Steps in one logit (or in a ratio of 1)."""

_DRAWN = ("ablated_direct_effect", "logit_change", "repair_layernorm", "repair_attention", "repair_mlp")


@dataclass(frozen=True)
class Drawn:
    """Which rows to draw for every head and ablation: `n_prompts` prompts, the first of `n_positions` rows, the others shorter.

    `spread` is the largest effect in steps; 0 makes every effect 0.
    """

    run_id: int = 1
    heads: Sequence[tuple[int, int]] = ((0, 0), (0, 1), (3, 1))
    ablations: Sequence[str] = ("resample", "zero")
    n_prompts: int = 4
    n_positions: int = 30
    spread: int = 40

    def rows(self, seed: int) -> list[Row]:
        """The rows, effects in steps. Ties, zeros and both signs are common; a few direct effects are very large."""
        random = Random(seed)
        rows = []
        for layer, head in self.heads:
            for prompt_id in range(self.n_prompts):
                shift = random.randint(-self.spread, self.spread)
                for pos in range(max(1, self.n_positions - 2 * prompt_id)):
                    scale = 50 if random.random() < 0.05 else 1
                    direct_effect = scale * random.randint(-self.spread, self.spread)
                    for ablation in self.ablations:
                        row = {"run_id": self.run_id, "ablation": ablation, "prompt_id": prompt_id, "pos": pos}
                        row |= {"layer": layer, "head": head, "direct_effect": direct_effect}
                        row |= {name: shift + random.randint(-self.spread, self.spread) for name in _DRAWN}
                        row["ln_scale_ratio"] = STEPS + random.randint(-10 * self.spread, 10 * self.spread)
                        rows.append(row)
        return rows


def stored(rows: Iterable[Row]) -> list[Row]:
    """The rows as the warehouse has them, effects in logits."""
    effects = {"direct_effect", *_DRAWN, "ln_scale_ratio"}
    return [{name: value / STEPS if name in effects else value for name, value in row.items()} for row in rows]


def self_repair(row: Row) -> int:
    """Self-repair of a row in steps."""
    return int(row["logit_change"] - row["ablated_direct_effect"] + row["direct_effect"])


def grouped(rows: Iterable[Row], *columns: str) -> dict[Group, list[Row]]:
    """The rows by the values of the columns."""
    groups: dict[Group, list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in columns)].append(row)
    return dict(groups)


def populations(rows: Iterable[Row]) -> list[Row]:
    """Every row once for each population it belongs to, which stands in its column `population`."""
    chosen = []
    for members in grouped(rows, "run_id", "layer", "head").values():
        for population, first in (("all", 0), ("top2", 0), ("top2_nobos", 1)):
            candidates = [row for row in members if row["pos"] >= first]
            places = {(row["prompt_id"], row["pos"]): row["direct_effect"] for row in candidates}
            best_first = sorted(places, key=lambda place: (-places[place], place))
            top = best_first if population == "all" else best_first[: max(1, 2 * len(best_first) // 100)]
            kept = set(top)
            chosen += [
                {**row, "population": population} for row in candidates if (row["prompt_id"], row["pos"]) in kept
            ]
    return chosen


def quantile(values: Iterable[Any], percent: float) -> Any:
    """The lowest value that at least `percent` of the values do not exceed."""
    ascending = sorted(values)
    return next(value for i, value in enumerate(ascending, start=1) if 1000 * i >= round(10 * percent) * len(ascending))
