"""The range of a colour scale: a few outliers must not leave all other heads the same pale colour."""

from collections.abc import Sequence
from statistics import median

import polars as pl

_OUTLIER = 2.0
"""A value is an outlier from this multiple of the 95th percentile of distances on."""

_MIN_VALUES = 10
"""Number of values from which on there can be outliers."""


def color_domain(columns: Sequence[pl.Series], centre: float | None) -> tuple[float, float]:
    """From the lowest to the highest value, or symmetric around the centre; outliers lie outside.

    Distances are from the centre or, where there is none, from the median. The width is never 0.
    """
    known = [float(value) for column in columns for value in column.drop_nulls()]
    if not known:
        return (-0.5, 0.5) if centre is None else (centre - 1, centre + 1)
    middle = median(known) if centre is None else centre
    distances = sorted(abs(value - middle) for value in known)
    usual = distances[int(0.95 * (len(distances) - 1))]
    furthest = _OUTLIER * usual if usual and len(known) >= _MIN_VALUES else distances[-1]
    inside = [value for value in known if abs(value - middle) <= furthest]
    if centre is None:
        low, high = min(inside), max(inside)
        return (low, high) if low < high else (low - 0.5, high + 0.5)
    reach = max(abs(value - centre) for value in inside) or 1.0
    return centre - reach, centre + reach


def saturation_caption(values: pl.Series, domain: tuple[float, float], unit: str, noun: str = "head") -> str | None:
    """A sentence on how many heads (`noun`) are beyond the ends of the colour scale; None where none is.

    `unit` is the suffix of the numbers, ' [logits]'.
    """
    low, high = domain
    rounding = 1e-9 * (high - low)
    n_beyond = ((values < low - rounding) | (values > high + rounding)).sum()
    if not n_beyond:
        return None
    ends = f"±{high:.3g}" if low == -high else f"{low:.3g} and {high:.3g}"
    beyond = f"1 {noun} is" if n_beyond == 1 else f"{n_beyond:,} {noun}s are"
    return f"Colours saturate at {ends}{unit}; {beyond} beyond."
