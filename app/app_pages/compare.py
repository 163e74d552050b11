"""Two runs, or two ablations of one, side by side: how far their heads agree, and which differ."""

import streamlit as st

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.heads.pairs import pair_scatter
from selfrepair.app.charts.style.color_domain import color_domain, saturation_caption
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover
from selfrepair.app.components.optional_caption import optional_caption
from selfrepair.app.components.tables import column_headers
from selfrepair.app.controls.comparison import choose_comparison, side_name
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.measure import choose_effect, choose_measure
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.chosen import link_to
from selfrepair.app.data.pair import Pair
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import column, words
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.queries.catalog.which_run import dataset_of

choice = choose_run()
st.title("Compare")
heads = heads_or_stop(choice)

with st.container(horizontal=True, vertical_alignment="bottom"):
    other = choose_comparison(choice)
if other is None:
    st.info(
        "This warehouse has a single run with a single ablation, so there is nothing to compare. Measure another one: "
        "`selfrepair ingest --model ... --ablation resample,mean,zero`.",
        icon=":material/info:",
    )
    st.stop()
with st.container(horizontal=True, vertical_alignment="bottom"):
    measure = choose_measure(choice, other)
    effect = choose_effect()
    label = choose_head(heads)

pair = Pair(measure, choice, other, effect)
about = About(population=choice.population if measure.view == "head_repair" else "all")
a, b = side_name(choice), side_name(other)
prefetch([pair.agreement(), pair.heads(), pair.most_different()])
(agreement,) = query_frame(pair.agreement()).to_dicts()
for side, name, run in (("A", a, choice.run), ("B", b, other.run)):
    text = f"{name}, {run['n_prompts']:,} prompts of {dataset_of(run)}, {run['status']}"
    st.markdown(f"**{side}**: {escape_markdown(text)}")
st.caption(f"{words(measure.name)}: {measure.meaning}. {measure.rows(POPULATIONS[choice.population], effect)}")
if agreement["n_shared"] == 0:
    empty = escape_markdown(b if agreement["n_a"] else a)
    st.info(
        "The two sides have no (layer, head) in common."
        if agreement["n_a"] and agreement["n_b"]
        else f"There are no summaries of {empty} for these rows: run `selfrepair refresh`.",
        icon=":material/info:",
    )
    st.stop()
notices = st.container()
if agreement["n_shared"] < max(agreement["n_a"], agreement["n_b"]):
    notices.info(
        f"A has {agreement['n_a']:,} heads and B has {agreement['n_b']:,}; compared: the "
        f"{agreement['n_shared']:,} with a layer and head number that both have.",
        icon=":material/info:",
    )
if choice.run["model"] != other.run["model"]:
    notices.info(
        "These are heads of different models: a pair shares only its layer and head number.",
        icon=":material/info:",
    )

with st.container(horizontal=True):
    for name, title_of, help_of in (
        ("mean_a", f"Mean of A{measure.unit}", "Mean over the compared heads, equally weighted."),
        ("mean_b", f"Mean of B{measure.unit}", "Mean over the compared heads, equally weighted."),
        ("pearson", "Pearson correlation", column("ablation_agreement", "pearson").description),
        ("spearman", "Spearman correlation", column("ablation_agreement", "spearman").description),
        ("mean_absolute_difference", f"Mean |A - B|{measure.unit}", "Mean over heads of the absolute difference."),
    ):
        value = agreement[name]
        st.metric(title_of, "none" if value is None else f"{value:.4f}", help=help_of, border=True, width="content")
data_popover(query_frame(pair.agreement()), pair.agreement(), name="agreement")

sql = pair.heads()
pairs = query_frame(sql)
domain = color_domain([pairs["value_a"], pairs["value_b"]], measure.centre)
for place, side, value in zip(st.columns(2, gap="medium"), ("A", "B"), ("value_a", "value_b"), strict=True):
    with place:
        st.subheader(side)
        text = f"{side}: {measure.title}"
        chart = head_map(pairs, value, words=text, centre=measure.centre, chosen=label, domain=domain)
        clickable_chart(chart, f"map_{side}")
        optional_caption(saturation_caption(pairs[value], domain, measure.unit))
        data_popover(pairs, sql, name=f"map_{side}", chart=chart, about=about)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("A minus B")
    domain = color_domain([pairs["difference"]], 0.0)
    text = f"A minus B: {measure.title}"
    chart = head_map(pairs, "difference", words=text, centre=0.0, chosen=label, domain=domain)
    clickable_chart(chart, "map_difference")
    optional_caption(saturation_caption(pairs["difference"], domain, measure.unit))
    data_popover(pairs, sql, name="map_difference", chart=chart, about=about)
with right:
    st.subheader("A against B")
    st.caption("A dot for each head; on the dashed line both sides agree.")
    dots = pair_scatter(pairs, f"A: {a}{measure.unit}", f"B: {b}{measure.unit}", measure.unit, label)
    clickable_chart(dots, "pairs")
    data_popover(pairs, sql, name="pairs", chart=dots, about=about)

st.subheader("Heads with the largest difference")
sql = pair.most_different()
most_different = query_frame(sql)
NAMES = {
    "value_a": (f"A{measure.unit}", f"{measure.meaning}, in A"),
    "value_b": (f"B{measure.unit}", f"{measure.meaning}, in B"),
    "difference": (f"A minus B{measure.unit}", f"{words(measure.name)} in A minus that in B"),
    "difference_in_se": (
        "A minus B [standard errors]",
        "The difference divided by the root of the sum of both squared standard errors, as for independent sides; empty where "
        "the measure has no standard error or a run has a single prompt",
    ),
}
st.dataframe(
    most_different,
    hide_index=True,
    column_config=column_headers("head_repair", ("layer", "head", "label"))
    | {
        name: st.column_config.NumberColumn(text, help=help_of, format="%.4f")
        for name, (text, help_of) in NAMES.items()
    },
)
data_popover(most_different, sql, name="most_different", about=about)
st.page_link(
    "app_pages/heads.py",
    label=f"Open {label} in Heads",
    icon=":material/grid_view:",
    query_params=link_to("heads", head=label),
)
