"""The self-repair views in exact arithmetic: integers in steps of 1e-4, fractions."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.stats import t as student_t

from selfrepair.warehouse.schema import EFFECT_STEP, EFFECTS

Row = Mapping[str, Any]

Group = tuple[Any, ...]

Term = Callable[[Row], Fraction]

Named = tuple[str, Term]

Shared = Mapping[int, tuple[int, int]]
"""By prompt: another one, and how many of its first tokens the prompt begins with."""

STEPS = round(1 / EFFECT_STEP)

PARTS = {
    "layernorm": "repair_layernorm",
    "attention": "repair_attention",
    "mlp": "repair_mlp",
    "post_norm": "repair_post_norm",
    "total": "self_repair",
}


def stored(row: Row) -> Row:
    """A row in steps of 1e-4 as the warehouse stores it."""
    return {name: value / STEPS if name in EFFECTS and value is not None else value for name, value in row.items()}


def reference(
    rows: list[Row], grain: tuple[str, ...], prompts_in_document: int = 1, shared: Shared | None = None
) -> dict[Group, dict[str, Any]]:
    """What an aggregated view must hold, by the columns of its grain."""
    heads = _heads(rows, prompts_in_document, shared or {})
    groups: dict[Group, list[Head]] = defaultdict(list)
    for head in heads:
        groups[tuple(head.names[name] for name in grain)].append(head)
    return {group: summary(members) for group, members in groups.items()}


@dataclass
class Head:
    """One head under one ablation in one population: its rows by cluster, those in the population, those around the cut."""

    names: Row
    prompts: set[int]
    n_rows: Counter[int]  # all rows that the population is the top of, by cluster
    top: list[Row]
    near_cut: list[Row]
    cut: int | None  # the direct effect of the last row in the top, in steps


def _heads(rows: list[Row], prompts_in_document: int, shared: Shared) -> list[Head]:
    by_head: dict[Group, list[Row]] = defaultdict(list)
    prompts = {(row["run_id"], row["prompt_id"]) for row in rows}
    for row in rows:
        removed = row["direct_effect"] - row["ablated_direct_effect"]
        other, n_shared = shared.get(row["prompt_id"], (0, 0))
        # with another prompt's tokens, a row is that prompt's, which there is in a run where it was drawn
        repeats = row["pos"] < n_shared and (row["run_id"], other) in prompts
        cluster = (other if repeats else row["prompt_id"]) // prompts_in_document
        full = {**row, "removed_effect": removed, "self_repair": row["logit_change"] + removed, "cluster": cluster}
        by_head[tuple(row[name] for name in ("run_id", "ablation", "layer", "head"))].append(full)
    heads = []
    for group, of_head in by_head.items():
        names = dict(zip(("run_id", "ablation", "layer", "head"), group, strict=True))
        for population in ("all", "top2", "top2_nobos"):
            used = [row for row in of_head if row["pos"] > 0 or population != "top2_nobos"]
            if not used:
                continue
            used.sort(key=lambda row: (-row["direct_effect"], row["prompt_id"], row["pos"]))
            n_before, n_top, n_after = (max(1, percent * len(used) // 1000) for percent in (14, 20, 26))
            is_all = population == "all"
            heads.append(
                Head(
                    names | {"population": population},
                    {row["prompt_id"] for row in used},
                    Counter(row["cluster"] for row in used),
                    used if is_all else used[:n_top],
                    [] if is_all else used[n_before:n_after] or used[:n_top],
                    None if is_all else used[n_top - 1]["direct_effect"],
                )
            )
    return heads


def summary(heads: list[Head]) -> dict[str, Any]:
    one: Named = ("rows", lambda row: Fraction(1))
    defined: Named = ("ratios", lambda row: Fraction(row["direct_effect"] != 0))

    def logits(name: str) -> Named:
        return name, lambda row: Fraction(row[name], STEPS)

    def share(is_one: Callable[[Row], bool]) -> Named:
        return "", lambda row: Fraction(is_one(row))

    def clipped(name: str) -> Named:
        def of(row: Row) -> Fraction:
            effect = row["direct_effect"]
            return max(Fraction(0), min(Fraction(1), Fraction(row[name], effect))) if effect else Fraction(0)

        return "", of

    rows = [row for head in heads for row in head.top]
    clusters = set().union(*(head.n_rows for head in heads))
    out: dict[str, Any] = {
        "n_rows": len(rows),
        "n_prompts": max(len(head.prompts) for head in heads),
        "n_clusters": len(clusters),
        "undefined_ratios": sum(row["direct_effect"] == 0 for row in rows),
    }
    for name in (*EFFECTS, "removed_effect", "self_repair"):
        out |= _estimate(f"mean_{name}", heads, clusters, logits(name), one)
    out |= _estimate("repaired_share", heads, clusters, share(lambda row: row["self_repair"] > 0), one)
    more = share(lambda row: row["self_repair"] > row["direct_effect"])
    out |= _estimate("overrepaired_share", heads, clusters, more, one)
    for part, name in PARTS.items():
        out |= _estimate(f"clipped_{part}_fraction", heads, clusters, clipped(name), defined)
        out |= _estimate(f"{part}_fraction_of_effect", heads, clusters, logits(name), logits("direct_effect"))
        out |= _estimate(f"{part}_fraction_of_removed", heads, clusters, logits(name), logits("removed_effect"))
    for of in ("fraction_of_effect", "fraction_of_removed"):
        has_interval = len(clusters) > 1 and out[f"total_{of}"] is not None
        out[f"{of}_is_unbounded"] = out[f"total_{of}_low"] is None if has_interval else None
    return out


def _sums(heads: list[Head], clusters: set[int], name: str, term: Term) -> dict[int, Fraction]:
    """A cluster's sum, less what it has because the cut at 2 % lies where it does."""
    sums = dict.fromkeys(clusters, Fraction(0))
    for head in heads:
        n_top = Counter(row["cluster"] for row in head.top)
        at_cut = _mean(term, head.near_cut) if head.near_cut else Fraction(0)
        if head.cut is not None and name in ("direct_effect", "removed_effect", "self_repair"):
            # these contain the row's own direct effect, which at the cut is known: it is the cut
            at_cut += Fraction(head.cut, STEPS) - _mean(
                lambda row: Fraction(row["direct_effect"], STEPS), head.near_cut
            )
        share = Fraction(len(head.top), head.n_rows.total())
        for cluster, n_rows in head.n_rows.items():
            sums[cluster] -= at_cut * (n_top[cluster] - share * n_rows)
        for row in head.top:
            sums[row["cluster"]] += term(row)
    return sums


def _mean(term: Term, rows: list[Row]) -> Fraction:
    return sum(map(term, rows), Fraction(0)) / len(rows)


def _estimate(name: str, heads: list[Head], clusters: set[int], above: Named, below: Named) -> dict[str, Any]:
    """A sum over rows divided by another, with its standard error and, for fractions, its interval; all None of a part that
    the model does not have.
    """
    if "post_norm" in name and heads[0].top[0]["repair_post_norm"] is None:
        return dict.fromkeys((f"{name}{end}" for end in ("", "_se", "_low", "_high")), None)
    above_by, below_by = (_sums(heads, clusters, *named) for named in (above, below))
    sums = [sum((named[1](row) for head in heads for row in head.top), Fraction(0)) for named in (above, below)]
    value = sums[0] / sums[1] if sums[1] else None
    n = len(clusters)
    out: dict[str, Any] = {name: None if value is None else float(value)}
    out |= dict.fromkeys((f"{name}_se", f"{name}_low", f"{name}_high"), None)
    if value is None or n == 1:
        return out
    residuals = [(above_by[cluster] - value * below_by[cluster]) / sums[1] for cluster in clusters]
    error = math.sqrt(Fraction(n, n - 1) * sum(residual**2 for residual in residuals))
    out[f"{name}_se"] = error
    t = float(student_t.ppf(0.975, n - 1))
    ends: tuple[float | None, float | None] = (float(value) - t * error, float(value) + t * error)
    if "fraction" in name and not name.startswith("clipped"):
        ends = _fieller(above_by, below_by)
    whole = sum(above_by[cluster] ** 2 + (value * below_by[cluster]) ** 2 for cluster in clusters) / sums[1] ** 2
    for end, at, half in zip(
        ("_low", "_high"), ends, _half_widths([*map(float, residuals)], float(whole)), strict=True
    ):
        out[f"{name}{end}"] = None if at is None else float(value) + half / t * (at - float(value))
    return out


def _half_widths(residuals: list[float], whole: float) -> tuple[float, float]:
    """How many standard errors the interval reaches down and up: Welch and Satterthwaite's t, or as far as Hall's interval; of
    residuals that are nothing beside the `whole` squares, Student's t.
    """
    r = np.array(residuals)
    if (r**2).sum() <= 1e-6 * whole:
        t = float(student_t.ppf(0.975, len(r) - 1))
        return t, t
    t = _t(min(len(r) - 1, (r**2).sum() ** 2 / (r**4).sum()))
    skew = (r**3).sum() / (r**2).sum() ** 1.5
    if abs(skew) < 1e-9:
        return t, t

    def hall(x: float) -> float:
        """Where x + skew x^2 / 3 + skew^2 x^3 / 27 + skew / 6 is found to be `x`."""
        return float(3 / skew * (np.cbrt(1 + skew * (x - skew / 6)) - 1))

    return max(t, hall(t)), max(t, -hall(-t))


def _t(freedom: float) -> float:
    """The 97.5 % point of Student's t: of up to 10 degrees that are no whole number, between those of the nearest two."""
    if freedom > 10:
        return float(student_t.ppf(0.975, freedom))
    whole = np.arange(11, 0, -1)
    return float(np.exp(np.interp(1 / freedom, 1 / whole, np.log(student_t.ppf(0.975, whole)))))


def _fieller(above: dict[int, Fraction], below: dict[int, Fraction]) -> tuple[float | None, float | None]:
    """The values v for which the mean over clusters of above - v * below is within t standard errors of 0."""
    n = len(above)
    a, b = (np.array([float(by[cluster]) for cluster in sorted(above)]) for by in (above, below))
    t2 = float(student_t.ppf(0.975, n - 1)) ** 2
    (aa, ab), (_, bb) = np.cov(a, b) / n
    quadratic = np.polynomial.Polynomial(
        [a.mean() ** 2 - t2 * aa, -2 * (a.mean() * b.mean() - t2 * ab), b.mean() ** 2 - t2 * bb]
    )
    if quadratic.coef[2] <= 0:
        return None, None
    low, high = sorted(quadratic.roots().real)
    return float(low), float(high)
