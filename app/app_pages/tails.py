"""Which heads matter at few tokens, and whether ablation finds those that matter."""

import streamlit as st

from selfrepair.app.charts.heads.ranks import effect_against_ablation
from selfrepair.app.charts.heads.tails import HEADS, hill, lorenz, reached
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import facts
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.measure import choose_effect
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.wording.columns import effect_words, meaning, title, words
from selfrepair.queries.catalog.quoting import literal

TAIL_NUMBERS = {"share_top_2": ".1%", "gini": ".3f", "excess_kurtosis": ",.1f", "hill_2": ".2f"}
AGREEMENTS = {"spearman": ".3f", "kendall_tau": ".3f", "top10_overlap": ".0%", "top20_overlap": ".0%"}

choice = choose()
st.title("Tails")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    strongest = heads.sort("mean_direct_effect", descending=True, maintain_order=True)["label"].to_list()
    others = st.multiselect(
        "Beside",
        heads["label"].to_list(),
        # They depend on run and ablation alone, so that a link without them means the same heads on another day.
        default=list(dict.fromkeys([strongest[len(strongest) // 2], strongest[-1]])),
        key="others",
        bind="query-params",
        max_selections=len(HEADS) - 1,
        help="Heads to compare with. At first: the middle and the lowest by mean direct effect over all positions.",
        width=420,
    )
    measure = choose_effect()
labels = list(dict.fromkeys([label, *others]))
of_heads = f"{choice.where_rows} AND label IN ({', '.join(map(literal, labels))})"
of_measure = f"{of_heads} AND measure = {literal(measure)}"
size = f"abs_{measure.removeprefix('abs_')}"

numbers_sql = f"FROM head_tail\nWHERE {of_measure}\nORDER BY label <> {literal(label)}, layer, head"
reached_sql = f"""SELECT label, value, n_reached, reached_share
FROM tail_curve
WHERE {of_measure} AND value > 0
ORDER BY layer, head, value"""
lorenz_sql = f"""SELECT label, lowest_share, total_share
FROM lorenz_curve
WHERE {of_heads} AND measure = {literal(size)}
ORDER BY layer, head, lowest_share"""
hill_sql = f"""SELECT label, n_top, top_share, cut_value, hill, hill_se
FROM hill_curve
WHERE {of_measure}
ORDER BY layer, head, n_top"""
agreement_sql = f"FROM rank_agreement\nWHERE {choice.where}"
ranks_sql = f"FROM importance_rank\nWHERE {choice.where}\nORDER BY direct_effect_rank"
ask_ahead([numbers_sql, reached_sql, lorenz_sql, hill_sql, agreement_sql, ranks_sql])

numbers = ask(numbers_sql)
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
    facts("head_tail", numbers.select(numbers.columns[numbers.columns.index("n_rows") :]), numbers["label"].to_list())
    below(numbers, numbers_sql, name="head_tail")

left, right = st.columns(2)
with left:
    st.subheader("Share of rows that reach a value", help=meaning("tail_curve", "reached_share"))
    points = ask(reached_sql)
    if points.is_empty():
        st.info("No row of these heads has a value above 0: choose the size instead.")
    else:
        st.caption("Values above 0, on logarithmic axes: a tail that follows a power law is a straight line.")
        show(reached(points, labels, measure), points, reached_sql, name="tail_curve")
with right:
    st.subheader("Lorenz curve", help=meaning("lorenz_curve", "total_share"))
    points = ask(lorenz_sql)
    if points.is_empty():
        st.info("All values of these heads are 0, so that there are no shares.")
    else:
        st.caption(
            f"{effect_words(size)}: where signs cancel there are no shares. On the dashed line all rows are equal."
        )
        show(lorenz(points, labels), points, lorenz_sql, name="lorenz_curve")

st.subheader("Hill plot", help=meaning("hill_curve", "hill"))
points = ask(hill_sql)
if points.is_empty():
    st.info("These heads have no Hill index: too few rows lie above 0. Choose the size instead.")
else:
    st.caption(
        f"Where a curve is level, the tail follows a power law. Shaded: 95 % interval of {label} if rows were independent. "
        "Dashed: up to 2 the variance keeps growing with the number of rows, up to 1 the mean does. "
        "Indices of very few rows may lie above the axis."
    )
    show(hill(points, labels), points, hill_sql, name="hill_curve")

st.header("Are important heads still found?")
agreement = ask(agreement_sql).row(0, named=True)
for place, (name, form) in zip(st.columns(len(AGREEMENTS)), AGREEMENTS.items(), strict=True):
    place.metric(
        words(name) if form.endswith("%") else title("rank_agreement", name),
        "none" if agreement[name] is None else format(agreement[name], form),
        help=meaning("rank_agreement", name),
        border=True,
    )
st.caption(
    "A dot is a head; click one to see its tail above. Above the dashed line, ablation ranks it lower than its direct "
    "effect does: repair hides it."
)
ranks = ask(ranks_sql)
ranking = effect_against_ablation(ranks, label)
clickable(ranking, "importance_rank")
below(ranks, ranks_sql, name="importance_rank", chart=ranking)
