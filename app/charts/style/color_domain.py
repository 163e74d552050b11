"""Where the colours of heads end: a few outliers must not leave all others the same pale colour."""

from collections.abc import Sequence
from statistics import median

import polars as pl

_FAR = 2.0
"""How many times the 95th percentile of distances a value may lie out before it is an outlier."""

_FEWEST = 10
"""Values of which one can be told to be an outlier."""


def domain_of(columns: Sequence[pl.Series], centre: float | None) -> tuple[float, float]:
    """From the lowest to the highest value, or equally far on both sides of the centre; outliers lie outside.

    Distances are counted from the centre or, where there is none, from the median. The domain is never of no width.
    """
    known = [float(value) for column in columns for value in column.drop_nulls()]
    if not known:
        return (-0.5, 0.5) if centre is None else (centre - 1, centre + 1)
    middle = median(known) if centre is None else centre
    distances = sorted(abs(value - middle) for value in known)
    usual = distances[int(0.95 * (len(distances) - 1))]
    furthest = _FAR * usual if usual and len(known) >= _FEWEST else distances[-1]
    inside = [value for value in known if abs(value - middle) <= furthest]
    if centre is None:
        low, high = min(inside), max(inside)
        return (low, high) if low < high else (low - 0.5, high + 0.5)
    reach = max(abs(value - centre) for value in inside) or 1.0
    return centre - reach, centre + reach


def told_beyond(values: pl.Series, domain: tuple[float, float], unit: str, noun: str = "head") -> str | None:
    """How many heads, or what `noun` says, lie beyond the ends of the colours, in a sentence for a page; None: none does.

    `unit` stands behind the numbers as it does in titles, ' [logits]'.
    """
    low, high = domain
    rounding = 1e-9 * (high - low)
    n_beyond = ((values < low - rounding) | (values > high + rounding)).sum()
    if not n_beyond:
        return None
    ends = f"±{high:.3g}" if low == -high else f"{low:.3g} and {high:.3g}"
    beyond = f"1 {noun} lies" if n_beyond == 1 else f"{n_beyond:,} {noun}s lie"
    return f"Colours end at {ends}{unit}; {beyond} beyond."
