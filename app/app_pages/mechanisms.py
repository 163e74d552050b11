"""What gives back: the final norm, attention, MLPs; by layer, by kind of token, and by how it is computed."""

import streamlit as st

from selfrepair.app.charts.models.frozen_layernorm import free_against_frozen
from selfrepair.app.charts.models.layernorm_histogram import overlaid
from selfrepair.app.charts.models.repair_parts import stacked
from selfrepair.app.charts.models.sensitivity import grid
from selfrepair.app.components.asides import aside
from selfrepair.app.components.figure import show
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.one_of import one_of
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data.answers import ask
from selfrepair.app.wording.columns import meaning, title
from selfrepair.queries.catalog.quoting import literal

LOGITS = {"LayerNorm": "mean_repair_layernorm", "attention": "mean_repair_attention", "MLP": "mean_repair_mlp"}
FRACTIONS = {
    "LayerNorm": "layernorm_fraction_of_effect",
    "attention": "attention_fraction_of_effect",
    "MLP": "mlp_fraction_of_effect",
}
# What widgets offer is also what links hold: words, with the value that stands for them in the views.
LEVELS = {"all heads": "model", "one head": "head"}
PARTS = {"LayerNorm": "layernorm", "attention": "attention", "MLP": "mlp", "total": "total"}
DIMENSIONS = {"how expected": "logprob_decile", "position": "position", "class of token": "token_class"}
BUCKETS = {
    "how expected": "Tenth of all positions by how expected the target is; 1: least",
    "position": "Position in the prompt",
    "class of token": "Class of the target",
}

choice = choose()
st.title("Mechanisms")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()

st.subheader("Repair by layer", help=meaning("layer_repair", "mean_self_repair"))
unit = one_of("Unit", ["logits", "of direct effect"], "unit")
parts, total = (LOGITS, "mean_self_repair") if unit == "logits" else (FRACTIONS, "total_fraction_of_effect")
sql = f"""SELECT layer, {total}, {", ".join(parts.values())}, n_heads, n_rows
FROM layer_repair
WHERE {choice.where}
ORDER BY layer"""
layers = ask(sql)
st.caption("A diamond marks what the parts come to: self-repair. A part below zero adds to the damage.")
show(
    stacked(
        layers,
        "layer_repair",
        parts,
        total,
        x="layer",
        x_title=title("layer_repair", "layer"),
        order="layer",
        more=["n_heads", "n_rows"],
    ),
    layers,
    sql,
    name="repair_by_layer",
)

st.subheader("Final norm frozen", help=meaning("frozen_layernorm", "mean_frozen_logit_change"))
sql = f"""SELECT label, layer, n_rows, mean_logit_change, mean_frozen_logit_change, mean_repair_layernorm, larger_frozen_share
FROM frozen_layernorm
WHERE {choice.where}
ORDER BY layer, head"""
frozen = ask(sql)
st.caption(
    "A dot is a head. Below the dashed line, ablation hurts more with the norm frozen: the free norm gives back."
)
show(free_against_frozen(frozen), frozen, sql, name="frozen_norm")

st.header("For all heads, or one")
with st.container(horizontal=True, vertical_alignment="bottom"):
    level = one_of("Heads", LEVELS, "level", meaning("layernorm_ratio", "level"))
    label = choose_head(heads, disabled=level == "all heads")
whose = "level = 'model'" if level == "all heads" else f"level = 'head' AND label = {literal(label)}"
# Two of the views know no population without position 0.
population = "all" if choice.population == "all" else "top2"
where_wide = f"run_id = {choice.run['run_id']} AND population = {literal(population)}"
with_first = "Of the final norm and of tokens, numbers of the top 2 % are with position 0."
aside(None if population == choice.population else with_first)

st.subheader("Does ablation shrink the final norm?", help=meaning("layernorm_ratio", "mean_ln_scale_ratio"))
sql = f"""SELECT ablation, n_rows, share_above_1, share_below_1, mean_ln_scale_ratio, ln_scale_ratio_quantile_50
FROM layernorm_ratio
WHERE {where_wide} AND {whose}
ORDER BY ablation"""
ratios = ask(sql).to_dicts()
for place, ratio in zip(st.columns(max(len(ratios), 1)), ratios, strict=False):
    place.metric(
        f"{ratio['ablation']}: rows with S/S' above 1",
        f"{ratio['share_above_1']:.1%}",
        f"median {ratio['ln_scale_ratio_quantile_50']:.4f}, mean {ratio['mean_ln_scale_ratio']:.4f}",
        delta_color="off",
        delta_arrow="off",
        help=meaning("layernorm_ratio", "share_above_1"),
        border=True,
    )
sql = f"""SELECT ablation, bin_low, bin_high, n_rows, bin_share
FROM layernorm_histogram
WHERE {where_wide} AND {whose}
ORDER BY ablation, bin_low"""
bins = ask(sql)
st.caption(
    "Right of the dashed line the norm shrank. The outermost bins, from 0.75 and from 1.245 on, hold everything beyond, too."
)
show(overlaid(bins), bins, sql, name="norm_histogram")

st.subheader("One fraction, computed in every way", help=meaning("repair_sensitivity", "fraction"))
part = one_of("Part", PARTS, "fraction_of", meaning("repair_sensitivity", "part"))
sql = f"""SELECT average, clipped, with_first, top_percent, fraction, n_rows, undefined_ratios
FROM repair_sensitivity
WHERE {choice.where_rows} AND {whose} AND part = {literal(PARTS[part])}
ORDER BY ALL"""
fractions = ask(sql)
st.caption("The frame is the paper's own way. Colours end at 50 % either way; numbers do not.")
show(grid(fractions), fractions, sql, name="sensitivity")

st.subheader("Repair by kind of target", help=meaning("repair_by_token", "bucket"))
dimension = one_of("Dimension", DIMENSIONS, "dimension", meaning("repair_by_token", "dimension"))
sql = f"""SELECT bucket, bucket_order, n_rows, mean_direct_effect, mean_logit_change, mean_self_repair,
    {", ".join(LOGITS.values())}
FROM repair_by_token
WHERE {where_wide} AND ablation = {literal(choice.ablation)} AND {whose} AND dimension = {literal(DIMENSIONS[dimension])}
ORDER BY bucket_order"""
kinds = ask(sql)
more = ["mean_direct_effect", "mean_logit_change", "n_rows"]
show(
    stacked(
        kinds,
        "repair_by_token",
        LOGITS,
        "mean_self_repair",
        x="bucket",
        x_title=BUCKETS[dimension],
        order="bucket_order",
        more=more,
    ),
    kinds,
    sql,
    name="repair_by_token",
)
