"""Colours of a number from low to high, or away from a centre on both sides, and their legend above a picture."""

import altair as alt


def legend() -> alt.Legend:
    """The colours in a row, above the picture."""
    return alt.Legend(orient="top", titleLimit=600, gradientLength=280, gradientThickness=10, tickCount=5)


def diverging(domain: tuple[float, float]) -> alt.Scale:
    """The theme's two colours on both sides of the middle of `domain`; what lies beyond has those of its ends."""
    return alt.Scale(range="diverging", interpolate="rgb", domain=list(domain), clamp=True)
