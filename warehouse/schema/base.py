"""What the table definitions are written with: SQL types, `column`, and the columns that several tables share."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from selfrepair.warehouse.schema.names import (
    ABLATIONS,
    ADDED_VECTORS,
    EDGE_POPULATIONS,
    NEURON_POPULATIONS,
    STATUSES,
    TARGET_KINDS,
)

metadata = sa.MetaData()
"""Every table of the warehouse, once the package is imported."""

ablation_kind = sa.Enum(*ABLATIONS, name="ablation_kind", metadata=metadata)
run_status = sa.Enum(*STATUSES, name="run_status", metadata=metadata)
target_kind = sa.Enum(*TARGET_KINDS, name="target_kind", metadata=metadata)
edge_population = sa.Enum(*EDGE_POPULATIONS, name="edge_population", metadata=metadata)
neuron_population = sa.Enum(*NEURON_POPULATIONS, name="neuron_population", metadata=metadata)
added_vector_kind = sa.Enum(*ADDED_VECTORS, name="added_vector_kind", metadata=metadata)
text = sa.String()
texts = sa.ARRAY(sa.String())
integer = sa.Integer()
integers = sa.ARRAY(sa.Integer())
small = sa.SmallInteger()
bigint = sa.BigInteger()
boolean = sa.Boolean()
effect: sa.REAL[float] = sa.REAL()
double: sa.Double[float] = sa.Double()
utc = sa.DateTime()


def column(name: str, kind: Any, comment: str, *, key: bool = False, null: bool = False) -> sa.Column[Any]:
    """A column with its meaning; `key`: part of the primary key, `null`: may be NULL."""
    return sa.Column(name, kind, primary_key=key, nullable=null, autoincrement=False, comment=comment)


def one_of(name: str, values: Sequence[str]) -> sa.CheckConstraint:
    """The rule that the column `name` holds one of `values`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{name} IN ({listed})")


RUN = ("run_id", integer, "The run: runs.run_id")
PROMPT = ("prompt_id", integer, "The prompt: prompts.prompt_id")
POS = ("pos", small, "Position in the prompt whose next token is the target, from 0")
ABLATION = (
    "ablation",
    ablation_kind,
    "What replaces the head's output: resample (its output on another prompt), mean (its mean output), or zero",
)
LAYER = ("layer", small, "Layer of the ablated head, from 0")
HEAD = ("head", small, "Index of the ablated query head in its layer, from 0")
UNIT = ("unit", integer, "The unit whose prompts are summed over: units.unit")
MLP_LAYER = ("mlp_layer", small, "Layer of the MLP, from 0")
NEURON_POPULATION = (
    "population",
    neuron_population,
    "Rows used: top2 (the head's top 2 % by direct effect), or top2_nobos (the top 2 % of those after position 0; units "
    "measured by a version that did not read them have none)",
)
