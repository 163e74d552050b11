"""Two runs, or two ablations of one, side by side: where their heads differ, and how far they agree."""

import streamlit as st

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.heads.pairs import pair_scatter
from selfrepair.app.charts.style.color_domain import domain_of, told_beyond
from selfrepair.app.components.asides import aside
from selfrepair.app.components.figure import below
from selfrepair.app.components.headers import headers
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.measure import choose_effect, choose_measure
from selfrepair.app.controls.other_side import choose_other, named
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.pair import Pair
from selfrepair.app.wording.columns import column, words
from selfrepair.app.wording.escape import plain
from selfrepair.queries.catalog.which_run import dataset_of

choice = choose()
st.title("Compare")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries yet: `selfrepair refresh`.", icon=":material/info:")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    other = choose_other(choice)
if other is None:
    st.info(
        "There is one run here, with one kind of ablation, and nothing to compare it with. Measure another: "
        "`selfrepair ingest --model ... --ablation resample,mean,zero`.",
        icon=":material/info:",
    )
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    measure = choose_measure()
    effect = choose_effect()
    label = choose_head(heads)

pair = Pair(measure, choice, other, effect)
a, b = named(choice), named(other)
ask_ahead([pair.agreement(), pair.heads(), pair.furthest()])
(told,) = ask(pair.agreement()).to_dicts()
for side, name, run in (("A", a, choice.run), ("B", b, other.run)):
    st.markdown(f"**{side}**: {plain(name)}, {run['n_prompts']:,} prompts of {plain(dataset_of(run))}, {run['status']}")
st.caption(f"{words(measure.name)}: {measure.meaning}. {measure.rows(POPULATIONS[choice.population], effect)}")
if told["n_shared"] == 0:
    empty = plain(b if told["n_a"] else a)
    st.info(
        "The two sides have no (layer, head) in common."
        if told["n_a"] and told["n_b"]
        else f"There are no summaries of {empty} for this population: `selfrepair refresh`.",
        icon=":material/info:",
    )
    st.stop()
notices = st.container()
if told["n_shared"] < max(told["n_a"], told["n_b"]):
    notices.info(
        f"A has {told['n_a']:,} heads and B has {told['n_b']:,}; compared are the {told['n_shared']:,} whose layer and "
        "number both have.",
        icon=":material/info:",
    )
if choice.run["model"] != other.run["model"]:
    notices.info(
        "These are heads of different models: of a pair, only its place (layer, head) is the same.",
        icon=":material/info:",
    )

with st.container(horizontal=True):
    for name, title_of, help_of in (
        ("mean_a", f"Mean of A{measure.unit}", "Mean over the compared heads, each counting once."),
        ("mean_b", f"Mean of B{measure.unit}", "Mean over the compared heads, each counting once."),
        ("pearson", "Pearson correlation", column("ablation_agreement", "pearson").description),
        ("spearman", "Spearman correlation", column("ablation_agreement", "spearman").description),
        ("mean_absolute_difference", f"Mean size of A - B{measure.unit}", "Mean over heads of the size of A minus B."),
    ):
        value = told[name]
        st.metric(title_of, "none" if value is None else f"{value:.4f}", help=help_of, border=True, width="content")
below(ask(pair.agreement()), pair.agreement(), name="agreement")

sql = pair.heads()
pairs = ask(sql)
domain = domain_of([pairs["value_a"], pairs["value_b"]], measure.centre)
for place, side, value in zip(st.columns(2, gap="medium"), ("A", "B"), ("value_a", "value_b"), strict=True):
    with place:
        st.subheader(side)
        text = f"{side}: {measure.title}"
        chart = head_map(pairs, value, words=text, centre=measure.centre, chosen=label, domain=domain)
        clickable(chart, f"map_{side}")
        aside(told_beyond(pairs[value], domain, measure.unit))
        below(pairs, sql, name=f"map_{side}", chart=chart)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("A minus B")
    domain = domain_of([pairs["difference"]], 0.0)
    text = f"A minus B: {measure.title}"
    chart = head_map(pairs, "difference", words=text, centre=0.0, chosen=label, domain=domain)
    clickable(chart, "map_difference")
    aside(told_beyond(pairs["difference"], domain, measure.unit))
    below(pairs, sql, name="map_difference", chart=chart)
with right:
    st.subheader("A against B")
    st.caption("A dot for each head; on the dashed line both sides are the same.")
    dots = pair_scatter(pairs, f"A: {a}{measure.unit}", f"B: {b}{measure.unit}", measure.unit, label)
    clickable(dots, "pairs")
    below(pairs, sql, name="pairs", chart=dots)

st.subheader("Heads that differ most")
sql = pair.furthest()
furthest = ask(sql)
NAMES = {
    "value_a": (f"A{measure.unit}", f"{measure.meaning}, in A"),
    "value_b": (f"B{measure.unit}", f"{measure.meaning}, in B"),
    "difference": (f"A minus B{measure.unit}", f"{words(measure.name)} in A minus that in B"),
    "difference_in_se": (
        "A minus B [standard errors]",
        "The difference divided by the root of both sides' squared standard errors, as if the sides were independent; "
        "empty: the measure has none, or a run has a single prompt",
    ),
}
st.dataframe(
    furthest,
    hide_index=True,
    column_config=headers("head_repair", ("layer", "head", "label"))
    | {
        name: st.column_config.NumberColumn(text, help=help_of, format="%.4f")
        for name, (text, help_of) in NAMES.items()
    },
)
below(furthest, sql, name="furthest")
st.page_link(
    "app_pages/heads.py", label=f"{label} from all sides", icon=":material/grid_view:", query_params={"head": label}
)
