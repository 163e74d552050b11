"""How few neurons make up for a head, whether they write more or erase less, and where."""

from functools import partial
from urllib.parse import urlencode

import polars as pl
import streamlit as st

from selfrepair.app.charts.mechanisms.neuron_curves import cumulative, exceeding
from selfrepair.app.charts.mechanisms.neuron_effects import clean_against_ablated
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import facts, headers
from selfrepair.app.components.not_measured import has_measured
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data import neurons as queries
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.data.heads import where_head
from selfrepair.app.wording.columns import column, meaning, title
from selfrepair.app.wording.whitespace import visible_column
from selfrepair.warehouse.schema import NEURONS_KEPT, NEURONS_RANKED

METRICS = ("mean_change", "share_of_effect", "positive_share", "anti_erasure_share", "neurons_for_half")
FACTS = ("top_neuron_share", "change_share_10", "half_overlap")
SIDEBAR = ("model", "run", "ablation", "population")


def choose_neuron(rows: pl.DataFrame, table: str) -> None:
    """Look at the neuron of the chosen row of a table."""
    for chosen in st.session_state[table]["selection"]["rows"]:
        st.session_state["neuron"] = str(rows["neuron"][chosen])


def written(name: str, value: float | None) -> str:
    """A number of `neuron_summary` as a metric shows it."""
    unit = column("neuron_summary", name).unit
    if value is None:
        return f"more than {NEURONS_RANKED}" if name == "neurons_for_half" else "none"
    return f"{value:.1%}" if unit == "ratio" else f"{value:d}" if unit == "neurons" else f"{value:.4f}"


choice = choose()
st.title("Neurons")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()
if not has_measured(choice, "neurons_last"):
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    (chosen,) = heads.filter(pl.col("label") == label).to_dicts()
    where = where_head(choice, chosen["layer"], chosen["head"])
    layers = [str(layer) for layer in ask(queries.mlps(where))["mlp_layer"]]
    if not layers:
        st.info(f"No MLP comes after {label} whose neurons were read.", icon=":material/info:")
        st.stop()
    mlp = choose_name(
        "MLP of layer", layers, "mlp", first=layers[-1], help=meaning("neuron_summary", "mlp_layer"), width=140
    )
    of_mlp = f"{where} AND mlp_layer = {mlp}"
    neurons_sql = queries.neurons(of_mlp)
    summary_sql, consistency_sql = queries.summary(of_mlp), queries.consistency(of_mlp)
    curve_sql, effects_sql = queries.curve(of_mlp), queries.effects(of_mlp)
    ask_ahead([neurons_sql, summary_sql, consistency_sql, curve_sql, effects_sql])
    neurons = ask(neurons_sql)
    neuron = int(
        choose_name(
            "Neuron",
            [str(number) for number in neurons["neuron"]],
            "neuron",
            help="One of those in the table below. At first: the one that erases less in most rows.",
            width=140,
        )
    )

(summary,) = ask(summary_sql).to_dicts()
st.caption(
    f"{label} ablated ({choice.ablation}), MLP {mlp}, over the {summary['n_rows']:,} rows of the head's top 2 %, "
    "whatever the population in the sidebar."
)
with st.container(horizontal=True):
    for name in METRICS:
        st.metric(
            title("neuron_summary", name).removesuffix(" [ratio]"),
            written(name, summary[name]),
            help=meaning("neuron_summary", name),
            border=True,
            width="content",
        )

curve = ask(curve_sql)
left, right = st.columns(2, gap="medium")
with left:
    st.subheader("How large single changes are", help=column("neuron_sparsity", "exceed_50_share").comment)
    st.caption("Share of rows in which the nth largest |change| exceeds a share of the head's direct effect.")
    show(exceeding(curve, queries.EXCEEDED), curve, curve_sql, name="neuron_sparsity")
with right:
    st.subheader("How few hold most of the change", help=meaning("neuron_sparsity", "cumulative_share"))
    st.caption("Of the |change| of all neurons, the share that the n largest of each row hold. Dashed: half.")
    show(cumulative(curve), curve, curve_sql, name="neuron_cumulative")

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Do they write more, or erase less?")
    effects = ask(effects_sql)
    st.caption(
        f"A dot is one of the {NEURONS_KEPT} neurons that change most in a row. Above the dashed line it repairs; "
        "where it wrote against the target before, it erases less."
    )
    show(clean_against_ablated(effects, neuron), effects, effects_sql, name="neuron_effects")
with right:
    st.subheader("The neurons that change most", help=meaning("anti_erasure", "n_stored"))
    st.caption("Those that erase less in most rows first. Choose a row to see where its neuron does.")
    table = f"neurons of {of_mlp}"
    st.dataframe(
        neurons,
        hide_index=True,
        height=460,
        column_config=headers("anti_erasure", neurons.columns),
        key=table,
        on_select=partial(choose_neuron, neurons, table),
        selection_mode="single-row",
    )
    below(neurons, neurons_sql, name="anti_erasure")

st.subheader(f"Where neuron {neuron} of MLP {mlp} changes most", divider="gray")
rows_sql = queries.rows_of_neuron(of_mlp, neuron)
rows = ask(rows_sql)
st.caption(
    f"Of the head's top 2 %, the {rows.height:,} rows with its largest |change|. · is a blank, ⏎ the end of a line."
)
address = {name: st.query_params[name] for name in SIDEBAR if name in st.query_params} | {"head": label}
links = pl.concat_str(pl.lit(f"tokens?{urlencode(address)}&prompt="), "prompt_id", pl.lit("&locked="), "pos")
st.dataframe(
    rows.with_columns(visible_column("context"), visible_column("target"), links.alias("see")).select(
        "see", *rows.columns
    ),
    hide_index=True,
    column_config=headers("neuron_top_rows", [name for name in rows.columns if name != "context"])
    | {
        "see": st.column_config.LinkColumn("Text", display_text="open", help="The prompt in the Tokens page"),
        "context": st.column_config.Column(
            "Text before", help="The last tokens up to the one that is read", width="large"
        ),
    },
)
below(rows, rows_sql, name="neuron_rows")

with st.expander("Are they always the same few?"):
    consistency = ask(consistency_sql)
    facts("neuron_consistency", consistency.select(FACTS))
    below(consistency, consistency_sql, name="neuron_consistency")
