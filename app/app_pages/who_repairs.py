"""Who repairs whom: which later heads and MLPs repair which ablated head, and the backup heads."""

import polars as pl
import streamlit as st

from selfrepair.app.charts.heads.dots import head_dots
from selfrepair.app.charts.mechanisms.edge_bars import target_bars
from selfrepair.app.charts.mechanisms.edge_graph import edge_graph, largest_edges
from selfrepair.app.charts.mechanisms.edge_matrix import edge_matrix
from selfrepair.app.charts.mechanisms.layer_matrix import layer_matrix
from selfrepair.app.charts.mechanisms.rerouting import expert_bars, rerouting_matrix
from selfrepair.app.charts.style.color_domain import color_domain, saturation_caption
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.not_measured import explain_missing_baseline, has_experts, has_measured
from selfrepair.app.components.optional_caption import optional_caption
from selfrepair.app.components.tables import column_headers
from selfrepair.app.components.token_links import token_links
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.linked import linked_selectbox
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data import edges as queries
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.data.tokens import top_rows, where_label
from selfrepair.app.wording.columns import meaning
from selfrepair.app.wording.escape import escape_markdown
from selfrepair.app.wording.whitespace import LEGEND, whitespace_column
from selfrepair.queries.catalog.quoting import literal

MIN_CHANGES = ("0", "0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1")
DEFAULT_MIN_CHANGE = "0.01"
MAX_ROWS_LISTED = 30

choice = choose_run()
st.title("Who repairs whom")
heads = heads_or_stop(choice)
population = "all" if choice.population == "all" else "top2"  # of the views of edges
where = f"{choice.where_rows} AND population = {literal(population)}"


def hidden_backup_heads(label: str) -> None:
    """How much the direct effect of heads grows once the given heads are ablated in the clean run, too."""
    st.header("Hidden backup heads", divider="gray")
    sql = queries.hidden_backups(choice.where)
    growth = query_frame(sql)
    if growth.is_empty():
        explain_missing_baseline(choice)
        return
    given = escape_markdown(", ".join(choice.run["given_heads"]))
    st.caption(
        f"Direct effects with {given} ablated throughout, against run {growth['base_run_id'][0]} without. Above the dashed "
        "line a head's direct effect grows once these are ablated."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        more = ["direct_effect_growth", "direct_effect_growth_low", "direct_effect_growth_high"]
        dots = head_dots(growth, "co_ablation", "base_mean_direct_effect", "mean_direct_effect", label, more)
        clickable_chart(dots, "co_ablation")
    with right:
        st.dataframe(
            growth.drop("layer", "base_run_id"),
            hide_index=True,
            height=420,
            column_config=column_headers("co_ablation", growth.columns),
        )
    data_popover(growth, sql, name="co_ablation", chart=dots)


def rerouting(label: str) -> None:
    """How often MLPs with routed experts choose others when a head is ablated, and what the experts add to the repair."""
    st.header("Re-routing", divider="gray")
    over = About(population=population)
    pairs_sql = queries.rerouting(where)
    experts_sql = queries.experts_of_head(f"{where} AND label = {literal(label)}")
    prefetch([pairs_sql, experts_sql])
    pairs, experts = query_frame(pairs_sql), query_frame(experts_sql)
    if pairs.is_empty():
        st.info("No MLP with routed experts comes after these heads.", icon=":material/info:")
        return
    st.caption(
        "Share of rows in which an MLP chooses other experts than in the clean run when a head is ablated "
        f"({choice.ablation}). Rows used: {POPULATIONS[population]} of the ablated head."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Other experts chosen", help="Click a cell to choose its ablated head.")
        matrix = rerouting_matrix(pairs, heads["label"].to_list(), label)
        clickable_chart(matrix, "rerouting")
        data_popover(pairs, pairs_sql, name="rerouting", chart=matrix, about=over)
    with right:
        st.subheader(f"Experts that repair {label}")
        if experts.is_empty():
            st.info(f"No MLP with routed experts comes after {label}.", icon=":material/info:")
        else:
            st.caption(f"The {experts.height:,} largest changes; those that are due to re-routing apart.")
            about = About(head=label, population=population)
            show_figure(expert_bars(experts), experts, experts_sql, name="experts", about=about)


if not has_measured(choice, "edges"):
    if has_experts(choice):
        rerouting(choose_head(heads))
    if choice.run["given_heads"]:
        hidden_backup_heads("")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    min_change = linked_selectbox(
        "Hide changes below [logits]",
        MIN_CHANGES,
        "min_change",
        first=DEFAULT_MIN_CHANGE,
        noun="minimum change",
        help="In the matrix and the graph: minimum |mean change|.",
        width=220,
    )
(chosen,) = heads.filter(pl.col("label") == label).to_dicts()
where_head = f"{where} AND layer = {chosen['layer']} AND head = {chosen['head']}"
targets_sql, edges_sql, counts_sql = (
    queries.targets(where),
    queries.edges(where, min_change),
    queries.counts(where, min_change),
)
to_heads_sql, to_mlps_sql = queries.layers(where, "head"), queries.layers(where, "mlp")
bars_sql, backups_sql = queries.targets_of_head(where_head), queries.backups(where)
rows_sql = top_rows(where_label(choice.where, label), "self_repair DESC", MAX_ROWS_LISTED)
prefetch([targets_sql, edges_sql, counts_sql, to_heads_sql, to_mlps_sql, bars_sql, rows_sql, backups_sql])

edges = query_frame(edges_sql)
(counts,) = query_frame(counts_sql).to_dicts()
changes_of_all = pl.Series(counts["changes"] or [], dtype=pl.Float64)
domain = color_domain([changes_of_all], 0.0)  # also of those that are hidden: colours keep their meaning
over_edges = About(population=population)
ablated, targets = heads["label"].to_list(), query_frame(targets_sql)["target_label"].to_list()
over = POPULATIONS[population]
with_first = "" if population == choice.population else ", with position 0"
st.caption(
    "Mean change in the direct effect of a later head, or of an MLP of the same or a later layer, when a head is ablated "
    f"({choice.ablation}); above 0 it repairs. "
    f"Rows used: {over} of the ablated head{with_first}. "
    f"{edges.height:,} of {counts['n_pairs']:,} pairs change by at least {min_change} logits"
    + (f" (the largest of {counts['n_large']:,})." if edges.height < counts["n_large"] else ".")
)
if edges.is_empty():
    st.info("No change is that large. Choose a lower minimum.", icon=":material/info:")
else:
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("All pairs", help="Click a cell to choose its ablated head.")
        matrix = edge_matrix(edges, ablated, targets, label, domain)
        clickable_chart(matrix, "edge_matrix")
        optional_caption(saturation_caption(edges["mean_change"], domain, " [logits]", "pair"))
        data_popover(edges, edges_sql, name="edge_matrix", chart=matrix, about=over_edges)
    with right:
        st.subheader("Largest changes as a graph", help="Click a head to choose it. Squares are MLPs.")
        lines = largest_edges(edges, label)
        graph = edge_graph(lines, ablated, targets, label, domain[1])
        clickable_chart(graph, "edge_graph")
        st.caption(f"The {lines.height:,} largest changes; width: size; strong: those of {label}.")
        data_popover(edges, edges_sql, name="edge_graph", chart=graph, about=over_edges)

st.subheader("Repair between layers")
st.caption(
    "Change in all heads of a later layer together, or in an MLP: mean over the heads of a layer, ablated one at a time."
)
to_heads, to_mlps = query_frame(to_heads_sql), query_frame(to_mlps_sql)
changes = pl.concat([to_heads["mean_change"], to_mlps["mean_change"]])
domain = color_domain([changes], 0.0)
left, right = st.columns(2, gap="medium")
with left:
    if to_heads.is_empty():
        st.info("This model has no later heads: it has a single layer.", icon=":material/info:")
    else:
        chart = layer_matrix(to_heads, "the later heads", domain)
        show_figure(chart, to_heads, to_heads_sql, name="layers_to_heads", about=over_edges)
with right:
    if to_mlps.is_empty():
        st.info("There is no MLP after these heads.", icon=":material/info:")
    else:
        chart = layer_matrix(to_mlps, "the MLP", domain)
        show_figure(chart, to_mlps, to_mlps_sql, name="layers_to_mlps", about=over_edges)
optional_caption(saturation_caption(changes, domain, " [logits]", "pair"))

st.header(label, divider="gray")
left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Largest changes when it is ablated")
    bars = query_frame(bars_sql)
    if bars.is_empty():
        st.info(f"There is no head or MLP after {label}.", icon=":material/info:")
    else:
        st.caption(f"The {bars.height:,} largest changes, with 95 % intervals of each alone, clustered by document.")
        about = About(head=label, population=population, bars="95 % intervals, clustered by document")
        show_figure(target_bars(bars), bars, bars_sql, name="edge_bars", about=about)
with right:
    st.subheader("Rows with the highest self-repair")
    rows = query_frame(rows_sql)
    st.caption(f"Rows used: {POPULATIONS[choice.population]}, sorted by self-repair. {LEGEND}")
    links = pl.Series("see", token_links(rows, label), pl.String)
    order = ["see", "context", "target", "self_repair", "direct_effect", "logit_change", "prompt_id", "pos"]
    st.dataframe(
        rows.with_columns(whitespace_column("context"), whitespace_column("target"), links).select(order),
        hide_index=True,
        height=480,
        column_config=column_headers(
            "self_repair", [name for name in order if name not in ("see", "context", "target")]
        )
        | {
            "see": st.column_config.LinkColumn("Text", display_text="open", help="Open the prompt in Tokens"),
            "context": st.column_config.Column("Context", help="The last tokens up to the source token", width=190),
            "target": st.column_config.Column("Target", help=meaning("tokens", "target"), width=70),
        },
    )
    data_popover(rows, rows_sql, name="edge_rows", about=About(head=label, n=f"{rows.height:,} rows"))

if has_experts(choice):
    rerouting(label)

st.header("Backup heads", divider="gray")
backups = query_frame(backups_sql)
st.caption(
    "Score: the change in a head's direct effect as a share of its usual size, averaged over all ablated heads before it; "
    "those that it does not repair count as 0."
)
st.dataframe(backups, hide_index=True, height=420, column_config=column_headers("backup_heads", backups.columns))
data_popover(backups, backups_sql, name="backup_heads", about=over_edges)

if choice.run["given_heads"]:
    hidden_backup_heads(label)
