"""Predictions beside the final logit: the logit lens of every layer, and log-probabilities under ablation."""

import sqlalchemy as sa

from selfrepair.warehouse.schema.base import (
    ABLATION,
    HEAD,
    LAYER,
    POS,
    PROMPT,
    RUN,
    column,
    effect,
    integer,
    metadata,
    small,
)

logit_lens = sa.Table(
    "logit_lens",
    metadata,
    column(*RUN),
    column(*PROMPT),
    column(*POS),
    column("layer", small, "Layer after which the residual stream is read, from 0"),
    column("logit", effect, "Target's logit there, minus the mean of all logits or minus the foil's [logits]"),
    column("logprob", effect, "Target's log-probability there; 0: certain [nats]"),
    column("rank", integer, "Rank of the target among all tokens by that logit; 1: the most likely [rank]"),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("rank >= 1"),
    comment=(
        "Logit lens: one row per measured position and layer, the prediction read from the clean run's residual stream "
        "after the layer through the final norm and the unembedding. Rounded to 1e-4."
    ),
)

logprob_changes = sa.Table(
    "logprob_changes",
    metadata,
    column(*RUN),
    column(*ABLATION),
    column(*PROMPT),
    column(*POS),
    column(*LAYER),
    column(*HEAD),
    column(
        "logprob_change", effect, "Ablated minus clean log-probability of the target; < 0: the ablation hurts [nats]"
    ),
    column(
        "kl", effect, "Kullback-Leibler divergence of the ablated from the clean prediction, KL(clean||ablated) [nats]"
    ),
    sa.CheckConstraint("pos >= 0"),
    comment="One row for each row of measurements, where log-probabilities were measured. Rounded to 1e-4.",
)
