"""Self-repair by component (LayerNorm, attention, MLPs, post-norm): by layer, by kind of target, and by definition."""

import streamlit as st

from selfrepair.app.charts.models.frozen_layernorm import free_against_frozen
from selfrepair.app.charts.models.layernorm_histogram import ratio_histograms
from selfrepair.app.charts.models.repair_parts import stacked_parts
from selfrepair.app.charts.models.sensitivity import sensitivity_grid
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import show_figure
from selfrepair.app.components.optional_caption import optional_caption
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.linked import linked_segments
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data.choice import POPULATIONS, UNITS
from selfrepair.app.data.query import query_frame
from selfrepair.app.wording.columns import meaning, title
from selfrepair.queries.catalog.quoting import literal

LOGITS = {
    "LayerNorm": "mean_repair_layernorm",
    "attention": "mean_repair_attention",
    "MLP": "mean_repair_mlp",
    "post-norm": "mean_repair_post_norm",
}
FRACTIONS = {
    "LayerNorm": "layernorm_fraction_of_effect",
    "attention": "attention_fraction_of_effect",
    "MLP": "mlp_fraction_of_effect",
    "post-norm": "post_norm_fraction_of_effect",
}
# Options of widgets, which links hold as well, with their values in the views.
LEVELS = {"all heads": "model", "one head": "head"}
PARTS = {"LayerNorm": "layernorm", "attention": "attention", "MLP": "mlp", "post-norm": "post_norm", "total": "total"}
DIMENSIONS = {"log-probability": "logprob_decile", "position": "position", "token class": "token_class"}
BUCKETS = {
    "log-probability": "Target log-probability decile; 1: least likely",
    "position": "Position in the prompt",
    "token class": "Class of the target token",
}

choice = choose_run()
st.title("Components of self-repair")
heads = heads_or_stop(choice)

st.subheader("Self-repair by component and layer", help=meaning("layer_repair", "mean_self_repair"))
unit = linked_segments("Unit", UNITS, "unit")
logits = choice.only(LOGITS)
parts, total = (
    (logits, "mean_self_repair") if unit == "logits" else (choice.only(FRACTIONS), "total_fraction_of_effect")
)
sql = f"""SELECT layer, {total}, {", ".join(parts.values())}, n_heads, n_rows
FROM layer_repair
WHERE {choice.where}
ORDER BY layer"""
layers = query_frame(sql)
st.caption(
    f"Rows used: {POPULATIONS[choice.population]}. Diamonds: self-repair, the sum of the components. A component below zero "
    "adds to the damage."
)
show_figure(
    stacked_parts(
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

st.subheader("LayerNorm frozen against free", help=meaning("frozen_layernorm", "mean_frozen_logit_change"))
sql = f"""SELECT label, layer, n_rows, mean_logit_change, mean_frozen_logit_change, mean_repair_layernorm, larger_frozen_share
FROM frozen_layernorm
WHERE {choice.where}
ORDER BY layer, head"""
frozen = query_frame(sql)
st.caption("A dot is a head. Below the dashed line, ablation hurts more with the final norm frozen: LayerNorm repair.")
show_figure(free_against_frozen(frozen), frozen, sql, name="frozen_norm")

st.header("All heads, or one")
with st.container(horizontal=True, vertical_alignment="bottom"):
    level = linked_segments("Heads", LEVELS, "level", meaning("layernorm_ratio", "level"))
    label = choose_head(heads, disabled=level == "all heads")
about_head = "" if level == "all heads" else label
whose = "level = 'model'" if level == "all heads" else f"level = 'head' AND label = {literal(label)}"
# Two of the views have no population without position 0.
population = "all" if choice.population == "all" else "top2"
where_wide = f"run_id = {choice.run['run_id']} AND population = {literal(population)}"
with_first = "For the final norm and kinds of target, the top 2 % include position 0."
optional_caption(None if population == choice.population else with_first)

st.subheader("Does ablation shrink the final norm's scale?", help=meaning("layernorm_ratio", "mean_ln_scale_ratio"))
sql = f"""SELECT ablation, n_rows, share_above_1, share_below_1, mean_ln_scale_ratio, ln_scale_ratio_quantile_50
FROM layernorm_ratio
WHERE {where_wide} AND {whose}
ORDER BY ablation"""
ratios = query_frame(sql).to_dicts()
for place, ratio in zip(st.columns(max(len(ratios), 1)), ratios, strict=False):
    place.metric(
        f"{ratio['ablation']}: rows with S/S' > 1",
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
bins = query_frame(sql)
st.caption(
    "S/S': clean over ablated scale. Right of the dashed line the scale shrank. The outermost bins, at 0.75 and 1.245, include "
    "everything beyond."
)
show_figure(
    ratio_histograms(bins),
    bins,
    sql,
    name="norm_histogram",
    about=About(head=about_head, ablation="every", population=population),
)

st.subheader("Does the definition matter?", help=meaning("repair_sensitivity", "fraction"))
part = linked_segments("Component", choice.only(PARTS), "fraction_of", meaning("repair_sensitivity", "part"))
sql = f"""SELECT average, clipped, with_first, top_percent, fraction, n_rows, undefined_ratios
FROM repair_sensitivity
WHERE {choice.where_rows} AND {whose} AND part = {literal(PARTS[part])}
ORDER BY ALL"""
fractions = query_frame(sql)
st.caption("Framed: the paper's definition. Colours saturate at ±50 %; the numbers do not.")
about = About(head=about_head, population="")
show_figure(sensitivity_grid(fractions), fractions, sql, name="sensitivity", about=about)

st.subheader("Self-repair by kind of target", help=meaning("repair_by_token", "bucket"))
dimension = linked_segments("Dimension", DIMENSIONS, "dimension", meaning("repair_by_token", "dimension"))
sql = f"""SELECT bucket, bucket_order, n_rows, mean_direct_effect, mean_logit_change, mean_self_repair,
    {", ".join(logits.values())}
FROM repair_by_token
WHERE {where_wide} AND ablation = {literal(choice.ablation)} AND {whose} AND dimension = {literal(DIMENSIONS[dimension])}
ORDER BY bucket_order"""
kinds = query_frame(sql)
more = ["mean_direct_effect", "mean_logit_change", "n_rows"]
show_figure(
    stacked_parts(
        kinds,
        "repair_by_token",
        logits,
        "mean_self_repair",
        x="bucket",
        x_title=BUCKETS[dimension],
        order="bucket_order",
        more=more,
    ),
    kinds,
    sql,
    name="repair_by_token",
    about=About(head=about_head, population=population),
)
