"""Colours of charts of heads, in addition to those of all charts (`palette`)."""

from typing import Final

import altair as alt

CHOSEN = "#d6317f"
"""The chosen head among all, and numbers over all of its rows."""

DOTS = "#3d8fd1"
"""Rows and prompts of one head."""

SEQUENTIAL: Final = "viridis"
"""Vega's scheme for sequential values, as areas."""

LAYERS = alt.SchemeParams(name=SEQUENTIAL, extent=[0.3, 0.88])
"""The same for layers as dots, without the ends that vanish on dark or light backgrounds."""
