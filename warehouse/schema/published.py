"""The paper's own numbers, as its authors released them."""

import sqlalchemy as sa

from selfrepair.warehouse.schema.base import (
    HEAD,
    LAYER,
    added_vector_kind,
    column,
    double,
    integer,
    metadata,
    one_of,
    small,
    text,
)
from selfrepair.warehouse.schema.names import EDGE_POPULATIONS
from selfrepair.warehouse.schema.self_repression import MULTIPLE

_PUBLISHED_MODEL = ("published_model", text, "The authors' name of the model")
_HUB_NAME = (
    "hub_name",
    text,
    "Last part of the model's name on the Hugging Face hub, in lower case; measured models are matched by it",
)

published_head_repair = sa.Table(
    "published_head_repair",
    metadata,
    column(*_PUBLISHED_MODEL, key=True),
    column(*_HUB_NAME),
    column("population", text, "Rows used: all, or top2 (the head's top 2 % by clean direct effect)", key=True),
    column(
        "published_run",
        text,
        "Which of the authors' runs of the model: default, or what its file's name adds",
        key=True,
    ),
    column(*LAYER, key=True),
    column(*HEAD, key=True),
    column(
        "direct_effect", double, "Mean clean direct effect of the head; > 0: it promotes the correct token [logits]"
    ),
    column(
        "ablated_direct_effect",
        double,
        "Mean direct effect of the output on another prompt that replaces the head's; > 0: it promotes the correct token "
        "[logits]",
    ),
    column("logit_change", double, "Mean ablated minus clean logit of the target; < 0: the ablation hurts [logits]"),
    column("repair_layernorm", double, "Mean LayerNorm repair; > 0: it compensates [logits]"),
    column("repair_attention", double, "Mean attention repair; > 0: later layers compensate [logits]"),
    column("repair_mlp", double, "Mean MLP repair; > 0: the same layer's and later MLPs compensate [logits]"),
    *(
        column(
            f"clipped_{part}_fraction",
            double,
            f"Mean over rows of repair_{part} / direct_effect, each clipped to [0, 1]; NULL: not published [ratio]",
            null=True,
        )
        for part in ("layernorm", "attention", "mlp")
    ),
    one_of("population", EDGE_POPULATIONS),
    comment=(
        "The paper's own numbers, not measured here: means of every head under resample ablation, as its authors released "
        "them. 3000 prompts of 400 tokens, one document each; weights processed by TransformerLens; numbers to 1e-6."
    ),
)

published_self_repression = sa.Table(
    "published_self_repression",
    metadata,
    column(*_PUBLISHED_MODEL, key=True),
    column(*_HUB_NAME),
    column("generation", text, "Which of the authors' sets of files: old, history or new", key=True),
    column(
        "receiver",
        text,
        "Which head, by mean direct effect: top_head to fourth_head of the model, or each_top_head: at each position the "
        "head with the highest direct effect there",
        key=True,
    ),
    column("layer", small, "Layer of the head, from 0; NULL: it varies by position", null=True),
    column("head", small, "Index of the head in its layer, from 0; NULL: it varies by position", null=True),
    column("n_receivers", integer, "Different heads among the positions; 1 unless receiver is each_top_head [heads]"),
    column(
        "added_vector",
        added_vector_kind,
        "What was added to the input of the head's layer: own (the head's clean output), other (a random head's) or random "
        "(a random direction)",
        key=True,
    ),
    column(*MULTIPLE, key=True),
    column("n_rows", integer, "Positions that the fit covers [rows]"),
    column("mean_direct_effect", double, "Mean direct effect of the head in the clean run [logits]"),
    column("mean_direct_effect_after", double, "Mean direct effect of the head with the vector added [logits]"),
    column(
        "slope",
        double,
        "Slope of the direct effect with the vector added over the clean one; < 1: represses, > 1: reinforces "
        "[logits per logit]",
    ),
    column("intercept", double, "The fit's value at a clean direct effect of 0 [logits]"),
    column("correlation", double, "Pearson correlation of the two direct effects [-1..1]"),
    column("lowered_share", double, "Share of positions where the direct effect falls [ratio]"),
    column(
        "top10_mean_direct_effect",
        double,
        "Mean clean direct effect over the 10 % of positions where it is highest [logits]",
    ),
    column(
        "top10_mean_direct_effect_after", double, "Mean direct effect with the vector added, same positions [logits]"
    ),
    column("top10_ratio", double, "Ratio of the two means, with the vector added / clean [ratio]"),
    sa.CheckConstraint("multiple >= 1"),
    comment=(
        "The paper's own numbers, not measured here: whether the strongest heads of 13 models repress or reinforce themselves, "
        "as its authors released them (self-repression); few positions, numbers to 1e-6."
    ),
)
