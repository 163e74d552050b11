"""What every run brings: its prompts, their tokens, and the effect of every ablation."""

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
    integers,
    metadata,
    small,
    text,
)
from selfrepair.warehouse.schema.names import EFFECTS

prompts = sa.Table(
    "prompts",
    metadata,
    column(*RUN, key=True),
    column("prompt_id", integer, "Number of the prompt in its run, from 0", key=True),
    column("document_id", integer, "Number in the dataset of the document in which the prompt begins, from 0"),
    column(
        "partner_id",
        integer,
        "Prompt of the same run whose activations replace this one's under resample ablation; never the prompt itself; "
        "NULL: no resample ablation",
        null=True,
    ),
    column("token_ids", integers, "The prompt's tokens in order, positions 0..T-1 [vocabulary ids]"),
    column("text", text, "The prompt's tokens as text"),
    sa.CheckConstraint("partner_id <> prompt_id"),
    comment="One row per prompt of a run.",
)

tokens = sa.Table(
    "tokens",
    metadata,
    column(*RUN, key=True),
    column(*PROMPT, key=True),
    column("pos", small, "Position in the prompt, 0..T-2: the last token has no next token", key=True),
    column("token_id", integer, "Token at this position [vocabulary id]"),
    column("token", text, "Token at this position, as text"),
    column("target_id", integer, "Next token, the correct prediction at this position [vocabulary id]"),
    column("target", text, "Next token, as text"),
    column(
        "clean_logit",
        effect,
        "Target's logit in the clean run, minus the mean of all logits at this position or minus the foil's [logits]",
    ),
    column("clean_logprob", effect, "Target's log-probability in the clean run; 0: certain [nats]"),
    column("clean_rank", integer, "Rank of the target among all tokens by clean logit; 1: the most likely [rank]"),
    column("clean_entropy", effect, "Entropy of the clean prediction; 0: the model is certain [nats]"),
    column("clean_ln_scale", effect, "Scale S that the final norm divides by in the clean run [residual-stream units]"),
    column(
        "foil_id",
        integer,
        "Token whose logit is subtracted from the target's; NULL: none, the mean of all logits is [vocabulary id]",
        null=True,
    ),
    column("foil", text, "Foil, as text; NULL: none", null=True),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("clean_rank >= 1"),
    sa.CheckConstraint("clean_ln_scale > 0"),
    comment="One row per measured position of a prompt: the target and the model's clean prediction of it.",
)

measurements = sa.Table(
    "measurements",
    metadata,
    column(*RUN),
    column(*ABLATION),
    column(*PROMPT),
    column(*POS),
    column(*LAYER),
    column(*HEAD),
    column(
        "direct_effect",
        effect,
        "Direct effect (direct logit attribution) of the head on the target's logit in the clean run; > 0: it promotes "
        "the correct token, < 0: it suppresses it [logits]",
    ),
    column(
        "ablated_direct_effect",
        effect,
        "Direct effect of what replaces the head's output, at the clean scale; > 0: the replacement promotes "
        "the correct token [logits]",
    ),
    column(
        "logit_change",
        effect,
        "Ablated minus clean logit of the target; < 0: the ablation hurts, > 0: it helps [logits]",
    ),
    column(
        "repair_layernorm",
        effect,
        "LayerNorm repair: self-repair through the changed scale of the final norm; > 0: it compensates, < 0: it adds "
        "to the damage [logits]",
    ),
    column(
        "repair_attention",
        effect,
        "Attention repair: self-repair through the outputs of later attention layers; > 0: they compensate, < 0: they "
        "add to the damage; 0 in the last layer [logits]",
    ),
    column(
        "repair_mlp",
        effect,
        "MLP repair: self-repair through the outputs of the same layer's and later MLPs (parallel blocks: later ones only); "
        "> 0: they compensate, < 0: they add to the damage "
        "[logits]",
    ),
    column(
        "ln_scale_ratio",
        effect,
        "Clean over ablated scale of the final norm, S/S'; > 1: the scale shrank, which amplifies what is left [ratio]",
    ),
    column(
        "repair_post_norm",
        effect,
        "Post-norm repair: self-repair through the norm of what attention adds, which rescales the other heads of the same "
        "layer; > 0: it compensates, < 0: it adds to the damage; NULL: the model has no post-norms [logits]",
        null=True,
    ),
    sa.CheckConstraint("pos >= 0"),
    *(sa.CheckConstraint(f"isfinite({name})") for name in EFFECTS if name != "repair_post_norm"),
    comment=(
        "One row per run, ablation, prompt, position and ablated head. This key is checked by selfrepair verify, not by "
        "an index, which would cost memory and loading speed at 10^8 rows. Effects are rounded to 1e-4."
    ),
)
