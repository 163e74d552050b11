"""The chosen measure of the heads: one of all that the warehouse has."""

from selfrepair.app.controls.linked import linked_selectbox
from selfrepair.app.data.choice import Choice
from selfrepair.app.data.measures import EFFECTS, Measure, measures
from selfrepair.app.wording.columns import effect_words, words


def choose_measure(*sides: Choice) -> Measure:
    """Draw the widget of all measures that the runs of the `sides` have."""
    name = linked_selectbox(
        "Measure",
        [name for name in measures() if all(side.has(name) for side in sides)],
        "measure",
        words,
        first="mean_self_repair",
        help="A column of head_repair, head_noise or head_tail; the SQL below the map has its name.",
        width=320,
    )
    return measures()[name]


def choose_effect() -> str:
    """Draw the widget of `EFFECTS`."""
    return linked_selectbox(
        "Distribution of",
        EFFECTS,
        "effect",
        effect_words,
        first="abs_self_repair",
        noun="number of a row",
        help="The number of a row whose distribution is described. Absolute: without its sign, abs_ in the views.",
        width=280,
    )
