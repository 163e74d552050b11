"""Colours of pictures of heads, beside those that every picture shares (`palette`)."""

from typing import Final

import altair as alt

CHOSEN = "#d6317f"
"""The one head that was chosen among many, and what belongs to all of its rows."""

DOTS = "#3d8fd1"
"""Rows and prompts of one head, which differ by place alone."""

SEQUENTIAL: Final = "viridis"
"""Vega's scheme for values from low to high, as areas."""

LAYERS = alt.SchemeParams(name=SEQUENTIAL, extent=[0.3, 0.88])
"""The same for layers as dots, without the ends that dark or light ground swallows."""
