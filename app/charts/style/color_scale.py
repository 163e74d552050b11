"""The diverging colour scale, and the legend of colours above a chart."""

import altair as alt


def legend() -> alt.Legend:
    """A horizontal legend above the chart."""
    return alt.Legend(orient="top", titleLimit=600, gradientLength=280, gradientThickness=10, tickCount=5)


def diverging(domain: tuple[float, float]) -> alt.Scale:
    """The theme's two colours on both sides of the middle of `domain`; values beyond have the colours of its ends."""
    return alt.Scale(range="diverging", interpolate="rgb", domain=list(domain), clamp=True)
