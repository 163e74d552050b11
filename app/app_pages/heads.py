"""Self-repair of all heads, and one of them in detail: its rows, components, noise and tail."""

import polars as pl
import streamlit as st

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.heads.parts import part_bars
from selfrepair.app.charts.heads.prompts import prompt_histogram
from selfrepair.app.charts.heads.scatter import head_scatter, row_scatter
from selfrepair.app.charts.heads.tail import tail_of_head
from selfrepair.app.charts.style.color_domain import color_domain, saturation_caption
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.optional_caption import optional_caption
from selfrepair.app.components.tables import fact_table, record_table
from selfrepair.app.components.token_links import token_links
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.linked import linked_segments
from selfrepair.app.controls.measure import choose_effect, choose_measure
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data import heads as queries
from selfrepair.app.data.choice import POPULATIONS, UNITS
from selfrepair.app.data.chosen import chosen
from selfrepair.app.data.measures import effect_title
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import column, meaning, title, words
from selfrepair.app.wording.whitespace import LEGEND, whitespace_column

METRICS = ("mean_direct_effect", "mean_logit_change", "mean_self_repair", "total_fraction_of_effect")
NOISE = ("self_repair_sd_between", "self_repair_sd_within", "slope", "intercept", "correlation", "overrepaired_share")
MAX_ROWS_LISTED = 50
TAIL = ("share_top_1", "share_top_10", "gini", "excess_kurtosis", "quantile_50", "quantile_99", "hill_2", "hill_2_se")

choice = choose_run()
st.title("Heads")
heads = heads_or_stop(choice)

with st.container(horizontal=True, vertical_alignment="bottom"):
    measure = choose_measure(choice)
    effect = choose_effect()
    label = choose_head(heads)
(head,) = heads.filter(pl.col("label") == label).to_dicts()
where = queries.where_head(choice, head["layer"], head["head"])
rows_used = POPULATIONS[choice.population]

cells_sql = f"SELECT layer, head, label, {measure.name}\nFROM {measure.view}\nWHERE {measure.where(choice, effect)}"
means_sql = (
    "SELECT label, layer, mean_direct_effect, mean_logit_change, mean_self_repair\n"
    f"FROM head_repair\nWHERE {choice.where}"
)
numbers_sql = queries.numbers(where, choice.population, [*METRICS, *(f"{name}_se" for name in METRICS)])
noise_sql = queries.noise(where)
rows_sql = queries.sampled_rows(where)
of_effect = chosen("unit") == UNITS[1]
parts_sql = queries.parts(where, choice.population, choice.only(queries.PARTS), of_effect=of_effect)
bins_sql = queries.prompt_bins(where)
curve_sql = queries.tail_curve(where, effect)
tail_sql = queries.tail_numbers(where, effect)
top_sql = queries.top_rows(where, list(filter(choice.has, queries.TOP_ROW_COLUMNS)))
prefetch(
    [
        cells_sql,
        means_sql,
        numbers_sql,
        noise_sql,
        rows_sql,
        parts_sql,
        bins_sql,
        curve_sql,
        tail_sql,
        top_sql,
    ]
)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("All heads", help="Click a cell to choose its head.")
    st.caption(f"{words(measure.name)}: {measure.meaning}. {measure.rows(rows_used, effect)}")
    cells = query_frame(cells_sql)
    domain = color_domain([cells[measure.name]], measure.centre)
    chart = head_map(cells, measure.name, words=measure.title, centre=measure.centre, chosen=label, domain=domain)
    clickable_chart(chart, "head_map")
    optional_caption(saturation_caption(cells[measure.name], domain, measure.unit))
    population = choice.population if measure.view == "head_repair" else "all"
    data_popover(cells, cells_sql, name="head_map", chart=chart, about=About(population=population))
with right:
    st.subheader("Direct effect against change in logit")
    st.caption(
        f"Means; rows used: {rows_used}. On the dashed line the logit drops by the whole direct effect: no self-repair, "
        "exactly so for zero ablation, whose replacement has no direct effect of its own."
    )
    means = query_frame(means_sql)
    dots = head_scatter(means, label)
    clickable_chart(dots, "heads_scatter")
    data_popover(means, means_sql, name="heads_scatter", chart=dots)

st.header(label, divider="gray")
by_population = {row["population"]: row for row in query_frame(numbers_sql).to_dicts()}
if choice.population not in by_population:
    st.info(f"{label} has no rows in: {rows_used}. Choose other rows in the sidebar.", icon=":material/info:")
    st.stop()
numbers = by_population[choice.population]
all_rows = About(head=label, population="all")
noise_frame = query_frame(noise_sql)
(noise,) = noise_frame.to_dicts()
with st.container(horizontal=True):
    for name in METRICS:
        value, error, is_share = numbers[name], numbers[f"{name}_se"], column("head_repair", name).unit == "ratio"
        form = ".1%" if is_share else ".4f"
        st.metric(
            words(name) if is_share else title("head_repair", name),
            "none" if value is None else format(value, form),
            None if error is None else f"SE {error:{form}}",
            delta_color="off",
            delta_arrow="off",
            help=f"{meaning('head_repair', name)}. SE: standard error, clustered by document.",
            border=True,
            width="content",
        )

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Direct effect against change in logit, row by row")
    rows = query_frame(rows_sql)
    n_drawn = f"{rows.height:,} of its {noise['n_rows']:,} rows"
    sampled = f"A random sample of {n_drawn}" if rows.height < noise["n_rows"] else "All its rows"
    line = "" if noise["slope"] is None else f" Solid: regression line of all rows, slope {noise['slope']:.3f}."
    st.caption(f"{sampled}, regardless of the rows selected in the sidebar.{line}")
    show_figure(
        row_scatter(rows, noise["slope"], noise["intercept"]),
        rows,
        rows_sql,
        name="head_rows",
        about=About(head=label, population="all", n=n_drawn),
    )
with right:
    st.subheader("Self-repair by component")
    linked_segments("Unit", UNITS, key="unit")
    bars = query_frame(parts_sql)
    bars_mean = "95 % intervals, clustered by document"
    st.caption(
        f"Rows used: {rows_used}. Error bars: {bars_mean}. The components add up to the total."
        + (" A single document has no interval." if noise["n_clusters"] == 1 else "")
    )
    axis = "Self-repair / direct effect [%]" if of_effect else "Self-repair [logits]"
    chart = part_bars(bars, axis, ".0%" if of_effect else ".3~f")
    show_figure(chart, bars, parts_sql, name="head_parts", about=About(head=label, bars=bars_mean))

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Self-repair by prompt")
    bins = query_frame(bins_sql)
    st.caption(f"Mean self-repair of each of {noise['n_prompts']:,} prompts; rows used: all.")
    chart = prompt_histogram(bins, by_population["all"]["mean_self_repair"])
    show_figure(chart, bins, bins_sql, name="head_prompts", about=all_rows)
    fact_table("head_noise", noise_frame.select(NOISE))
    data_popover(noise_frame, noise_sql, name="head_noise", about=all_rows)
with right:
    st.subheader("Tail of the distribution")
    st.caption(
        f"{effect_title(effect)}: the share of all rows that reach a value. A straight line indicates a power law."
    )
    curve = query_frame(curve_sql)
    if curve.is_empty():
        st.info("No row is above 0, so a logarithmic axis has nothing to show.", icon=":material/info:")
    else:
        show_figure(tail_of_head(curve, effect_title(effect)), curve, curve_sql, name="head_tail", about=all_rows)
    tail = query_frame(tail_sql)
    fact_table("head_tail", tail.select(TAIL))
    data_popover(tail, tail_sql, name="head_tail_numbers", about=all_rows)

st.subheader("Rows with the highest direct effect")
top = query_frame(top_sql)
listed = top.head(MAX_ROWS_LISTED)
st.caption(
    f"The first {listed.height:,} of its top 2 % of rows by direct effect"
    + (f"; the data below have {top.height:,}" if listed.height < top.height else "")
    + f". {LEGEND}"
)
record_table(
    "top_effect",
    listed.with_columns(whitespace_column("token"), whitespace_column("target")),
    token_links(listed, label),
    to=("Text", "Open the prompt in Tokens"),
)
data_popover(top, top_sql, name="top_rows", about=About(head=label, population="top2", n=f"{top.height:,} rows"))
