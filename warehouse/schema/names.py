"""The fixed names and numbers that the tables, the measurement and the views share."""

ABLATIONS = ("resample", "mean", "zero")
STATUSES = ("incomplete", "complete", "failed")
NORMS = ("layernorm", "rmsnorm")
TARGET_KINDS = ("head", "mlp")
EDGE_POPULATIONS = ("all", "top2")
NEURON_POPULATIONS = ("top2", "top2_nobos")
LOGITS_OF = ("next_token", "answer", "answer_minus_foil")
NEXT_TOKEN, ANSWER, ANSWER_MINUS_FOIL = LOGITS_OF
ADDED_VECTORS = ("own", "other", "random")
MECHANISMS = ("edges", "neurons_last", "neurons_all", "experts", "logit_lens", "logprobs", "self_repression")

PART_TABLES = ("prompts", "tokens", "measurements")
"""The tables that each unit brings rows for."""

MECHANISM_TABLES = (
    "neuron_changes",
    "neuron_curves",
    "neuron_sums",
    "edge_sums",
    "routing_sums",
    "expert_sums",
    "logit_lens",
    "logprob_changes",
    "self_repression",
    "self_repression_sums",
)
"""The tables that a unit brings where the run measures mechanisms."""

MEASURED_TABLES = (*PART_TABLES, *MECHANISM_TABLES)
"""All that units bring: in a publication, views of Parquet files."""

EFFECTS = (
    "direct_effect",
    "ablated_direct_effect",
    "logit_change",
    "repair_layernorm",
    "repair_attention",
    "repair_mlp",
    "repair_post_norm",
    "ln_scale_ratio",
)
"""The measured numbers of a row of `measurements`, stored rounded to `EFFECT_STEP`."""

PARTS = ("repair_layernorm", "repair_attention", "repair_mlp", "repair_post_norm")
"""The parts whose sum is self-repair; the last is NULL, and counts as 0, in models without `post_norms`."""

ROUNDED = frozenset(
    (
        *(("measurements", name) for name in EFFECTS),
        *(("neuron_changes", name) for name in ("clean_effect", "ablated_effect")),
        *(("logit_lens", name) for name in ("logit", "logprob")),
        *(("logprob_changes", name) for name in ("logprob_change", "kl")),
        *(
            ("self_repression", name)
            for name in ("direct_effect", "direct_effect_after", "direct_effect_after_own_scale")
        ),
    )
)
"""Columns (table, name) that are stored rounded to `EFFECT_STEP`."""

EFFECT_STEP = 1e-4
"""Step to which the effect columns are rounded [logits]: the rounding noise of a float32 measurement."""

LONGEST_PROMPT = 2**15 + 1
"""Most tokens of a prompt: positions are SMALLINT, and the last token has none [tokens]."""

NEURONS_KEPT = 16
"""Neurons kept in `neuron_changes` per row and MLP: those with the largest changes."""

NEURONS_RANKED = 50
"""Largest changes of a row that `neuron_curves` counts one by one."""

CHANGE_SHARES = {"exceed_50": 0.5, "exceed_10": 0.1, "exceed_5": 0.05, "exceed_2_5": 0.025, "exceed_1": 0.01}
"""Columns of `neuron_curves`, with the share of the head's direct effect that a change must exceed to be counted."""

IDENTITY_ERROR_LIMIT = 1e-3
"""Largest |self_repair - sum of its `PARTS`| that a row may have whose effects are no larger than `LARGE_EFFECT`; of larger
effects, the same share [logits].
"""

LARGE_EFFECT = 100.0
"""Effects above this are numbers with so many digits before the point that rounding alone reaches the limit [logits]."""
