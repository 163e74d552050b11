"""Self-repression: what a head writes once its own output is added to the input of its layer."""

import sqlalchemy as sa

from selfrepair.warehouse.schema.base import (
    POS,
    PROMPT,
    RUN,
    added_vector_kind,
    column,
    double,
    effect,
    integer,
    metadata,
    small,
)

MULTIPLE = ("multiple", small, "Multiple of the vector that was added [times]")
_LAYER = ("layer", small, "Layer of the head, from 0")
_HEAD = ("head", small, "Index of the query head in its layer, from 0")
_ADDED_VECTOR = (
    "added_vector",
    added_vector_kind,
    "What was added to the input of the head's layer: own (the head's clean output), other (another head's output) or "
    "random (a random direction), of the same length",
)

self_repression = sa.Table(
    "self_repression",
    metadata,
    column(*RUN),
    column(*PROMPT),
    column(*POS),
    column(*_LAYER),
    column(*_HEAD),
    column(*_ADDED_VECTOR),
    column(*MULTIPLE),
    column("other_head", small, "Head of the same layer whose output was added; NULL: own or random", null=True),
    column("direct_effect", effect, "Direct effect of the head in the clean run [logits]"),
    column(
        "direct_effect_after",
        effect,
        "Direct effect of the head with the vector added at this position, at the clean scale [logits]",
    ),
    column(
        "direct_effect_after_own_scale",
        effect,
        "The same at the final norm's scale of the run with the vector added; NULL: not measured [logits]",
        null=True,
    ),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("multiple >= 1"),
    comment=(
        "Self-repression on a seeded sample of rows: a head's direct effect before and after its own output is added to "
        "the input of its layer. Rounded to 1e-4."
    ),
)

self_repression_sums = sa.Table(
    "self_repression_sums",
    metadata,
    column(*RUN),
    column(*PROMPT),
    column(*_LAYER),
    column(*_HEAD),
    column(*_ADDED_VECTOR),
    column(*MULTIPLE),
    column("n_rows", integer, "Positions summed over [rows]"),
    column("sum_x", double, "Sum of the clean direct effect x [logits]"),
    column("sum_xx", double, "Sum of x^2 [logits^2]"),
    column("sum_y", double, "Sum of the direct effect y with the vector added, at the clean scale [logits]"),
    column("sum_xy", double, "Sum of x y [logits^2]"),
    column("sum_yy", double, "Sum of y^2 [logits^2]"),
    column(
        "sum_z",
        double,
        "Sum of z: y at the final norm's scale of the run with the vector added; NULL: not measured [logits]",
        null=True,
    ),
    column("sum_xz", double, "Sum of x z; NULL: not measured [logits^2]", null=True),
    column("sum_zz", double, "Sum of z^2; NULL: not measured [logits^2]", null=True),
    comment="Sums over all positions of a prompt, which give the slope of a head's self-repression. Not rounded.",
)
