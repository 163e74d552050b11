"""Who repairs whom: which later heads and MLPs make up for which ablated head, and which heads come in for many."""

from urllib.parse import urlencode

import polars as pl
import streamlit as st

from selfrepair.app.charts.heads.dots import head_dots
from selfrepair.app.charts.mechanisms.edge_bars import target_bars
from selfrepair.app.charts.mechanisms.edge_graph import drawn, edge_graph
from selfrepair.app.charts.mechanisms.edge_matrix import edge_matrix
from selfrepair.app.charts.mechanisms.layer_matrix import layer_matrix
from selfrepair.app.charts.style.color_domain import domain_of, told_beyond
from selfrepair.app.components.asides import aside
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import headers
from selfrepair.app.components.not_measured import has_measured, say_without_given
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data import edges as queries
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.tokens import of_head, top_rows
from selfrepair.app.wording.columns import meaning
from selfrepair.app.wording.escape import plain
from selfrepair.app.wording.whitespace import visible_column
from selfrepair.queries.catalog.quoting import literal

LEAST = ("0", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1")
FIRST_LEAST = "0.01"
MOST_ROWS_LISTED = 30
SIDEBAR = ("model", "run", "ablation", "population")

choice = choose()
st.title("Who repairs whom")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()
population = "all" if choice.population == "all" else "top2"  # of the views of edges
where = f"{choice.where_rows} AND population = {literal(population)}"


def hidden_backups(label: str) -> None:
    """How much more heads write in a run whose given heads are gone in the clean forward, too."""
    st.header("Hidden backups", divider="gray")
    sql = queries.hidden_backups(choice.where)
    grown = ask(sql)
    if grown.is_empty():
        say_without_given(choice)
        return
    gone = plain(", ".join(choice.run["given_heads"]))
    st.caption(
        f"What heads write with {gone} ablated already, against run {grown['base_run_id'][0]} without. "
        "Above the dashed line a head does more once these are gone."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        more = ["direct_effect_growth", "direct_effect_growth_se"]
        dots = head_dots(grown, "co_ablation", "base_mean_direct_effect", "mean_direct_effect", label, more)
        clickable(dots, "co_ablation")
    with right:
        st.dataframe(
            grown.drop("layer", "base_run_id"),
            hide_index=True,
            height=420,
            column_config=headers("co_ablation", grown.columns),
        )
    below(grown, sql, name="co_ablation", chart=dots)


if not has_measured(choice, "edges"):
    if choice.run["given_heads"]:
        hidden_backups("")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    least = choose_name(
        "Hide changes below [logits]",
        LEAST,
        "least",
        first=FIRST_LEAST,
        help="In matrix and graph. The size of the mean change, up or down.",
        width=220,
    )
(chosen,) = heads.filter(pl.col("label") == label).to_dicts()
where_head = f"{where} AND layer = {chosen['layer']} AND head = {chosen['head']}"
targets_sql, edges_sql, counts_sql = queries.targets(where), queries.edges(where, least), queries.counts(where, least)
to_heads_sql, to_mlps_sql = queries.layers(where, "head"), queries.layers(where, "mlp")
bars_sql, backups_sql = queries.targets_of_head(where_head), queries.backups(where)
rows_sql = top_rows(of_head(choice.where, label), "self_repair DESC", MOST_ROWS_LISTED)
ask_ahead([targets_sql, edges_sql, counts_sql, to_heads_sql, to_mlps_sql, bars_sql, rows_sql, backups_sql])

edges = ask(edges_sql)
(counts,) = ask(counts_sql).to_dicts()
ablated, targets = heads["label"].to_list(), ask(targets_sql)["target_label"].to_list()
over = "all positions" if population == "all" else "the ablated head's top 2 %"
noted = "" if population == choice.population else ", with position 0"
st.caption(
    f"Mean change in what a later head or MLP writes towards the target, over {over}{noted} ("
    f"{choice.ablation}). Above 0: it repairs. "
    f"{edges.height:,} of {counts['n_pairs']:,} pairs change by at least {least} logits"
    + (f"; of {counts['n_large']:,}, the largest." if edges.height < counts["n_large"] else ".")
)
if edges.is_empty():
    st.info("No change is as large as that. Choose a lower one.", icon=":material/info:")
else:
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("All pairs", help="Click a cell to choose its ablated head.")
        matrix = edge_matrix(edges, ablated, targets, label)
        clickable(matrix, "edge_matrix")
        aside(told_beyond(edges["mean_change"], domain_of([edges["mean_change"]], 0.0), " [logits]", "pair"))
        below(edges, edges_sql, name="edge_matrix", chart=matrix)
    with right:
        st.subheader("The largest, as a graph", help="Click a head to choose it. Squares are MLPs.")
        lines = drawn(edges, label)
        graph = edge_graph(lines, ablated, targets, label)
        clickable(graph, "edge_graph")
        st.caption(f"The {lines.height:,} largest, the wider the larger; strong: those of {label}.")
        below(edges, edges_sql, name="edge_graph", chart=graph)

st.subheader("Layer by layer")
st.caption(
    "Mean over the heads of a layer, one ablated at a time, of the change in all heads of a later layer together, or in an MLP."
)
to_heads, to_mlps = ask(to_heads_sql), ask(to_mlps_sql)
changes = pl.concat([to_heads["mean_change"], to_mlps["mean_change"]])
domain = domain_of([changes], 0.0)
left, right = st.columns(2, gap="medium")
with left:
    if to_heads.is_empty():
        st.info("No heads come after those of one layer.", icon=":material/info:")
    else:
        show(layer_matrix(to_heads, "the later heads", domain), to_heads, to_heads_sql, name="layers_to_heads")
with right:
    if to_mlps.is_empty():
        st.info("No MLP comes after these heads.", icon=":material/info:")
    else:
        show(layer_matrix(to_mlps, "the MLP", domain), to_mlps, to_mlps_sql, name="layers_to_mlps")
aside(told_beyond(changes, domain, " [logits]", "pair"))

st.header(label, divider="gray")
left, right = st.columns(2, gap="medium")
with left:
    st.subheader("What changes most when it is gone")
    bars = ask(bars_sql)
    if bars.is_empty():
        st.info(f"Nothing comes after {label}.", icon=":material/info:")
    else:
        st.caption(
            f"The {bars.height:,} largest changes, with two standard errors on both sides (rows taken as independent, "
            "so rather too narrow)."
        )
        show(target_bars(bars), bars, bars_sql, name="edge_bars")
with right:
    st.subheader("Where it is repaired most")
    rows = ask(rows_sql)
    st.caption(
        f"Of {POPULATIONS[choice.population]}, the highest self-repair first. · is a blank, ⏎ the end of a line."
    )
    address = {name: st.query_params[name] for name in SIDEBAR if name in st.query_params} | {"head": label}
    links = pl.concat_str(pl.lit(f"tokens?{urlencode(address)}&prompt="), "prompt_id", pl.lit("&locked="), "pos")
    order = ["see", "context", "target", "self_repair", "direct_effect", "logit_change", "prompt_id", "pos"]
    st.dataframe(
        rows.with_columns(visible_column("context"), visible_column("target"), links.alias("see")).select(order),
        hide_index=True,
        height=480,
        column_config=headers("self_repair", [name for name in order if name not in ("see", "context", "target")])
        | {
            "see": st.column_config.LinkColumn("Text", display_text="open", help="The prompt in the Tokens page"),
            "context": st.column_config.Column(
                "Text before", help="The last tokens up to the one that is read", width=190
            ),
            "target": st.column_config.Column("Target", help=meaning("tokens", "target"), width=70),
        },
    )
    below(rows, rows_sql, name="edge_rows")

st.header("Which heads come in for others", divider="gray")
backups = ask(backups_sql)
st.caption(
    "Score: the mean over all ablated heads before it of its change, as a share of what it usually writes; those that it "
    "does not repair count 0."
)
st.dataframe(backups, hide_index=True, height=420, column_config=headers("backup_heads", backups.columns))
below(backups, backups_sql, name="backup_heads")

if choice.run["given_heads"]:
    hidden_backups(label)
