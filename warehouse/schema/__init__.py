"""The single description of the warehouse's tables: names, types, keys, and what every column means.

A unit stands in square brackets at the end of a column's comment. Views, the README and the pages read these comments
instead of repeating them. The file itself is made by `migrations/*.sql`; a test holds the two equal.

There are no foreign keys: DuckDB then refuses to update a referenced row. `selfrepair verify` looks for orphans.
"""

from selfrepair.warehouse.schema import (  # noqa: F401 (each adds its tables to `metadata`)
    ledger,
    logit_lens,
    measurements,
    mechanisms,
    published,
    runs,
    self_repression,
)
from selfrepair.warehouse.schema.base import metadata
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
    MECHANISMS,
    NEURONS_KEPT,
    NEURONS_RANKED,
    NEXT_TOKEN,
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
    "MECHANISMS",
    "NEURONS_KEPT",
    "NEURONS_RANKED",
    "NEXT_TOKEN",
    "ROUNDED",
    "metadata",
]
