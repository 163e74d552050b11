"""Tails: which heads act at few tokens only, and whether ablation finds the important heads."""

import dataclasses

import streamlit as st

from selfrepair.app.charts.heads.ranks import effect_against_ablation
from selfrepair.app.charts.heads.tails import HEADS, hill_curves, lorenz_curves, tail_curves
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.tables import fact_table
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.linked import linked_heads
from selfrepair.app.controls.measure import choose_effect
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import effect_words, meaning, title, words
from selfrepair.queries.catalog.quoting import literal

TAIL_NUMBERS = {"share_top_2": ".1%", "gini": ".3f", "excess_kurtosis": ",.1f", "hill_2": ".2f"}
AGREEMENTS = {"spearman": ".3f", "kendall_tau": ".3f", "top10_overlap": ".0%", "top20_overlap": ".0%"}

choice = choose_run()
st.title("Tails")
heads = heads_or_stop(choice)

with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    strongest = heads.sort("mean_direct_effect", descending=True, maintain_order=True)["label"].to_list()
    others = linked_heads(
        "Compare with",
        heads["label"].to_list(),
        "others",
        # The default depends on run and ablation alone, so that a link without heads keeps its meaning.
        list(dict.fromkeys([strongest[len(strongest) // 2], strongest[-1]])),
        len(HEADS) - 1,
        help="Default: the median and the lowest head by mean direct effect over all positions.",
        width=420,
    )
    measure = choose_effect()
labels = list(dict.fromkeys([label, *others]))
heads_where = f"{choice.where_rows} AND label IN ({', '.join(map(literal, labels))})"
measure_where = f"{heads_where} AND measure = {literal(measure)}"
absolute = f"abs_{measure.removeprefix('abs_')}"

numbers_sql = f"FROM head_tail\nWHERE {measure_where}\nORDER BY label <> {literal(label)}, layer, head"
reached_sql = f"""SELECT label, value, n_reached, reached_share
FROM tail_curve
WHERE {measure_where} AND value > 0
ORDER BY layer, head, value"""
lorenz_sql = f"""SELECT label, lowest_share, total_share
FROM lorenz_curve
WHERE {heads_where} AND measure = {literal(absolute)}
ORDER BY layer, head, lowest_share"""
hill_sql = f"""SELECT label, n_top, top_share, cut_value, hill, hill_se
FROM hill_curve
WHERE {measure_where}
ORDER BY layer, head, n_top"""
agreement_sql = f"FROM rank_agreement\nWHERE {choice.where}"
ranks_sql = f"FROM importance_rank\nWHERE {choice.where}\nORDER BY direct_effect_rank"
prefetch([numbers_sql, reached_sql, lorenz_sql, hill_sql, agreement_sql, ranks_sql])

numbers = query_frame(numbers_sql)
of_heads = About(head=", ".join(labels), population="all")
first = numbers.row(0, named=True)
for place, (name, form) in zip(st.columns(len(TAIL_NUMBERS)), TAIL_NUMBERS.items(), strict=True):
    value, error = first[name], first.get(f"{name}_se")
    place.metric(
        f"{label}: {words(name) if form.endswith('%') else title('head_tail', name)}",
        "none" if value is None else format(value, form),
        None if error is None else f"standard error {error:.2f}",
        delta_color="off",
        delta_arrow="off",
        help=meaning("head_tail", name),
        border=True,
        height="stretch",
    )
with st.expander("All numbers of these heads"):
    fact_table(
        "head_tail", numbers.select(numbers.columns[numbers.columns.index("n_rows") :]), numbers["label"].to_list()
    )
    data_popover(numbers, numbers_sql, name="head_tail", about=of_heads)

left, right = st.columns(2)
with left:
    st.subheader("Share of rows that reach a value", help=meaning("tail_curve", "reached_share"))
    points = query_frame(reached_sql)
    if points.is_empty():
        st.info("No row of these heads has a value above 0: choose the absolute value instead.")
    else:
        st.caption("Values above 0, on logarithmic axes: a power-law tail is a straight line.")
        show_figure(tail_curves(points, labels, measure), points, reached_sql, name="tail_curve", about=of_heads)
with right:
    st.subheader("Lorenz curve", help=meaning("lorenz_curve", "total_share"))
    points = query_frame(lorenz_sql)
    if points.is_empty():
        st.info("All values of these heads are 0, so there are no shares.")
    else:
        st.caption(
            f"{effect_words(absolute)}, since shares need values of one sign. On the dashed line all rows are equal."
        )
        show_figure(lorenz_curves(points, labels), points, lorenz_sql, name="lorenz_curve", about=of_heads)

st.subheader("Hill plot", help=meaning("hill_curve", "hill"))
points = query_frame(hill_sql)
if points.is_empty():
    st.info("These heads have no Hill index: too few rows are above 0. Choose the absolute value instead.")
else:
    st.caption(
        f"Where a curve is flat, the tail follows a power law. Shaded: 95 % interval of {label} for independent rows. Dashed: "
        "below 2 the variance is infinite, below 1 so is the mean. Indices of very few rows may be above the axis."
    )
    bars = f"shaded: 95 % interval of {label} for independent rows"
    about = dataclasses.replace(of_heads, bars=bars)
    show_figure(hill_curves(points, labels), points, hill_sql, name="hill_curve", about=about)

st.header("Does ablation find the important heads?")
agreement = query_frame(agreement_sql).row(0, named=True)
for place, (name, form) in zip(st.columns(len(AGREEMENTS)), AGREEMENTS.items(), strict=True):
    place.metric(
        words(name) if form.endswith("%") else title("rank_agreement", name),
        "none" if agreement[name] is None else format(agreement[name], form),
        help=meaning("rank_agreement", name),
        border=True,
    )
st.caption(
    "A dot is a head; click one to see its tail above. Above the dashed line, ablation ranks it lower than its direct effect "
    "does: self-repair hides it."
)
ranks = query_frame(ranks_sql)
ranking = effect_against_ablation(ranks, label)
clickable_chart(ranking, "importance_rank")
data_popover(ranks, ranks_sql, name="importance_rank", chart=ranking)
