"""How sparse repair by neurons is, how much of it is anti-erasure, and where it happens."""

from functools import partial

import polars as pl
import streamlit as st

from selfrepair.app.charts.mechanisms.neuron_curves import cumulative_curve, exceedance_curves
from selfrepair.app.charts.mechanisms.neuron_effects import clean_against_ablated
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.not_measured import explain_earlier_neurons, has_measured
from selfrepair.app.components.tables import column_headers, fact_table
from selfrepair.app.components.token_links import token_links
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.linked import linked_selectbox
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data import neurons as queries
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.chosen import choose
from selfrepair.app.data.heads import where_head
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import column, meaning, title
from selfrepair.app.wording.whitespace import LEGEND, whitespace_column
from selfrepair.queries.catalog.quoting import literal
from selfrepair.warehouse.schema import NEURON_POPULATIONS, NEURONS_KEPT, NEURONS_RANKED

METRICS = ("mean_change", "share_of_effect", "positive_share", "anti_erasure_share", "neurons_for_half")
FACTS = ("top_neuron_share", "change_share_10", "half_overlap")


def choose_neuron(rows: pl.DataFrame, table: str) -> None:
    """Choose the neuron of the selected row of a table."""
    for chosen in st.session_state[table]["selection"]["rows"]:
        choose("neuron", str(rows["neuron"][chosen]))


def metric_text(name: str, value: float | None) -> str:
    """A number of `neuron_summary` as shown by a metric."""
    unit = column("neuron_summary", name).unit
    if value is None:
        return f"more than {NEURONS_RANKED}" if name == "neurons_for_half" else "none"
    return f"{value:.1%}" if unit == "ratio" else f"{value:d}" if unit == "neurons" else f"{value:.4f}"


choice = choose_run()
st.title("Neurons")
heads = heads_or_stop(choice)
if not has_measured(choice, "neurons_last"):
    st.stop()
population = choice.population if choice.population in NEURON_POPULATIONS else "top2"
if query_frame(queries.populations(choice.where_rows))["population"].to_list() == ["top2"] and population != "top2":
    explain_earlier_neurons(choice)
    population = "top2"

with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    (chosen,) = heads.filter(pl.col("label") == label).to_dicts()
    where = where_head(choice, chosen["layer"], chosen["head"])
    of_population = f"{where} AND population = {literal(population)}"
    layers = [str(layer) for layer in query_frame(queries.mlps(of_population))["mlp_layer"]]
    if not layers:
        st.info(f"No MLP whose neurons were measured comes after {label}.", icon=":material/info:")
        st.stop()
    mlp = linked_selectbox(
        "MLP of layer",
        layers,
        "mlp",
        first=layers[-1],
        noun="MLP of layer",
        where=f"after {label} whose neurons were measured",
        help=meaning("neuron_summary", "mlp_layer"),
        width=140,
    )
    about = About(head=label, population=population)
    of_mlp = f"{of_population} AND mlp_layer = {mlp}"
    rows_of_mlp = f"{where} AND mlp_layer = {mlp} AND in_{population}"
    neurons_sql = queries.neurons(of_mlp)
    summary_sql, consistency_sql = queries.summary(of_mlp), queries.consistency(of_mlp)
    curve_sql, effects_sql = queries.curve(of_mlp), queries.effects(rows_of_mlp)
    prefetch([neurons_sql, summary_sql, consistency_sql, curve_sql, effects_sql])
    neurons = query_frame(neurons_sql)
    if neurons.is_empty():
        st.info(
            f"No neuron of MLP {mlp} changes in the head's rows: under resample ablation, nothing does at the first position. "
            "Choose other rows, another head, MLP or ablation.",
            icon=":material/info:",
        )
        st.stop()
    neuron = int(
        linked_selectbox(
            "Neuron",
            [str(number) for number in neurons["neuron"]],
            "neuron",
            where=f"among those stored of {label} and MLP {mlp}",
            help="One of the neurons in the table below. Default: the one with most rows of anti-erasure.",
            width=140,
        )
    )

(summary,) = query_frame(summary_sql).to_dicts()
instead = "" if population == choice.population else ", regardless of the rows selected in the sidebar"
st.caption(
    f"{label} ablated ({choice.ablation}), MLP {mlp}. Rows used: the head's {POPULATIONS[population]} "
    f"({summary['n_rows']:,} rows){instead}."
)
with st.container(horizontal=True):
    for name in METRICS:
        st.metric(
            title("neuron_summary", name).removesuffix(" [ratio]"),
            metric_text(name, summary[name]),
            help=meaning("neuron_summary", name),
            border=True,
            width="content",
        )

curve = query_frame(curve_sql)
left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Size of the largest changes", help=column("neuron_sparsity", "exceed_50_share").comment)
    st.caption(
        "Share of rows whose nth largest |change| exceeds a share of the head's direct effect. The paper orders neurons by "
        "their change with its sign: the signed_ columns of the data."
    )
    show_figure(exceedance_curves(curve, queries.EXCEEDED), curve, curve_sql, name="neuron_sparsity", about=about)
with right:
    st.subheader("Concentration of the change", help=meaning("neuron_sparsity", "cumulative_share"))
    st.caption("Share of the total |change| of all neurons in the n largest of each row. Dashed: half.")
    show_figure(cumulative_curve(curve), curve, curve_sql, name="neuron_cumulative", about=about)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Anti-erasure: clean against ablated effect")
    effects = query_frame(effects_sql)
    st.caption(
        f"A dot is one of the {NEURONS_KEPT} neurons that change most in a row. Above the dashed line it repairs; where its "
        "clean effect is negative, that is anti-erasure: it erases less."
    )
    show_figure(clean_against_ablated(effects, neuron), effects, effects_sql, name="neuron_effects", about=about)
with right:
    st.subheader("The neurons that change most", help=meaning("anti_erasure", "n_stored"))
    st.caption("Sorted by rows of anti-erasure. Select a row to see where its neuron changes.")
    table = f"neurons of {of_mlp}"
    st.dataframe(
        neurons,
        hide_index=True,
        height=460,
        column_config=column_headers("anti_erasure", neurons.columns),
        key=table,
        on_select=partial(choose_neuron, neurons, table),
        selection_mode="single-row",
    )
    data_popover(neurons, neurons_sql, name="anti_erasure", about=about)

st.subheader(f"Largest changes of neuron {neuron} in MLP {mlp}", divider="gray")
rows_sql = queries.rows_of_neuron(rows_of_mlp, neuron)
rows = query_frame(rows_sql)
st.caption(f"The {rows.height:,} rows with its largest |change|, of the head's {POPULATIONS[population]}. {LEGEND}")
st.dataframe(
    rows.with_columns(
        whitespace_column("context"), whitespace_column("target"), pl.Series("see", token_links(rows, label), pl.String)
    ).select("see", *rows.columns),
    hide_index=True,
    column_config=column_headers("neuron_top_rows", [name for name in rows.columns if name != "context"])
    | {
        "see": st.column_config.LinkColumn("Text", display_text="open", help="Open the prompt in Tokens"),
        "context": st.column_config.Column("Context", help="The last tokens up to the source token", width="large"),
    },
)
data_popover(rows, rows_sql, name="neuron_rows", about=about)

with st.expander("Consistency: are the same neurons involved in every row?"):
    consistency = query_frame(consistency_sql)
    fact_table("neuron_consistency", consistency.select(FACTS))
    data_popover(consistency, consistency_sql, name="neuron_consistency", about=about)
