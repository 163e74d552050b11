"""The single description of the warehouse's tables: names, types, keys, and what every column means.

A unit stands in square brackets at the end of a column's comment. Views, the README and the pages read these comments
instead of repeating them. The file itself is made by `migrations/*.sql`; a test holds the two equal.

Here are the values that columns take; the tables themselves are `tables.metadata`, which needs SQLAlchemy: whoever only
reads a file does without, and starts in half the time.
"""

from selfrepair.warehouse.schema.names import (
    ABLATIONS,
    ADDED_VECTORS,
    ANSWER,
    ANSWER_MINUS_FOIL,
    CHANGE_SHARES,
    EDGE_POPULATIONS,
    EFFECT_STEP,
    EFFECTS,
    IDENTITY_ERROR_LIMIT,
    LARGE_EFFECT,
    LONGEST_PROMPT,
    MEASURED_TABLES,
    MECHANISM_TABLES,
    MECHANISMS,
    NEURON_POPULATIONS,
    NEURONS_KEPT,
    NEURONS_RANKED,
    NEXT_TOKEN,
    PART_TABLES,
    PARTS,
    ROUNDED,
)

__all__ = [
    "ABLATIONS",
    "ADDED_VECTORS",
    "ANSWER",
    "ANSWER_MINUS_FOIL",
    "CHANGE_SHARES",
    "EDGE_POPULATIONS",
    "EFFECTS",
    "EFFECT_STEP",
    "IDENTITY_ERROR_LIMIT",
    "LARGE_EFFECT",
    "LONGEST_PROMPT",
    "MEASURED_TABLES",
    "MECHANISMS",
    "MECHANISM_TABLES",
    "NEURONS_KEPT",
    "NEURONS_RANKED",
    "NEURON_POPULATIONS",
    "NEXT_TOKEN",
    "PARTS",
    "PART_TABLES",
    "ROUNDED",
]
