"""Which heads are repaired, and one of them from all sides: its rows, what gives back, its noise and its tail."""

from urllib.parse import urlencode

import polars as pl
import streamlit as st

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.heads.parts import part_bars
from selfrepair.app.charts.heads.prompts import prompt_histogram
from selfrepair.app.charts.heads.scatter import of_heads, of_rows
from selfrepair.app.charts.heads.tail import tail_of_head
from selfrepair.app.charts.style.color_domain import domain_of, told_beyond
from selfrepair.app.components.asides import aside
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import facts, records
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.measure import choose_effect, choose_measure
from selfrepair.app.controls.one_of import one_of
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data import heads as queries
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.measures import effect_title
from selfrepair.app.wording.columns import column, meaning, title, words
from selfrepair.app.wording.whitespace import visible_column

METRICS = ("mean_direct_effect", "mean_logit_change", "mean_self_repair", "total_fraction_of_effect")
NOISE = ("self_repair_sd_between", "self_repair_sd_within", "slope", "intercept", "correlation", "overrepaired_share")
MOST_TOLD = 50
SIDEBAR = ("model", "run", "ablation", "population")
TAIL = ("share_top_1", "share_top_10", "gini", "excess_kurtosis", "quantile_50", "quantile_99", "hill_2", "hill_2_se")

choice = choose()
st.title("Heads")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries yet: `selfrepair refresh`.", icon=":material/info:")
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom"):
    measure = choose_measure()
    effect = choose_effect()
    label = choose_head(heads)
(chosen,) = heads.filter(pl.col("label") == label).to_dicts()
where = queries.where_head(choice, chosen["layer"], chosen["head"])
among = POPULATIONS[choice.population]

unit = st.session_state.get("unit", st.query_params.get("unit"))
cells_sql = f"SELECT layer, head, label, {measure.name}\nFROM {measure.view}\nWHERE {measure.where(choice, effect)}"
means_sql = (
    "SELECT label, layer, mean_direct_effect, mean_logit_change, mean_self_repair\n"
    f"FROM head_repair\nWHERE {choice.where}"
)
numbers_sql = queries.numbers(where, choice.population, [*METRICS, *(f"{name}_se" for name in METRICS)])
noise_sql = queries.noise(where)
rows_sql = queries.sampled_rows(where)
of_effect = unit == "of direct effect"
parts_sql = queries.parts(where, choice.population, of_effect=of_effect)
bins_sql = queries.prompt_bins(where)
curve_sql = queries.tail_curve(where, effect)
tail_sql = queries.tail_numbers(where, effect)
top_sql = queries.top_rows(where)
ask_ahead(
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
    st.caption(f"{words(measure.name)}: {measure.meaning}. {measure.rows(among, effect)}")
    cells = ask(cells_sql)
    domain = domain_of([cells[measure.name]], measure.centre)
    chart = head_map(cells, measure.name, words=measure.title, centre=measure.centre, chosen=label, domain=domain)
    clickable(chart, "head_map")
    aside(told_beyond(cells[measure.name], domain, measure.unit))
    below(cells, cells_sql, name="head_map", chart=chart)
with right:
    st.subheader("Does the output change less than the direct effect?")
    st.caption(
        f"Means over {among}. On the dashed line, the logit changes by all of the direct effect: exactly so where the "
        "replacement has none of its own (zero ablation)."
    )
    means = ask(means_sql)
    dots = of_heads(means, label)
    clickable(dots, "heads_scatter")
    below(means, means_sql, name="heads_scatter", chart=dots)

st.header(label, divider="gray")
found = {row["population"]: row for row in ask(numbers_sql).to_dicts()}
if choice.population not in found:
    st.info(f"{label} has no rows among {among}. Choose another population in the sidebar.", icon=":material/info:")
    st.stop()
numbers = found[choice.population]
noise_frame = ask(noise_sql)
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
            help=f"{meaning('head_repair', name)}. SE: standard error, clustered by prompt.",
            border=True,
            width="content",
        )

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("Its rows")
    rows = ask(rows_sql)
    drawn = (
        f"{rows.height:,} of its {noise['n_rows']:,} rows, drawn evenly"
        if rows.height < noise["n_rows"]
        else "All its rows"
    )
    line = "" if noise["slope"] is None else f" Solid: the line fitted through all rows, slope {noise['slope']:.3f}."
    st.caption(f"{drawn}, whatever the population.{line}")
    show(of_rows(rows, noise["slope"], noise["intercept"]), rows, rows_sql, name="head_rows")
with right:
    st.subheader("What gives back")
    one_of("Unit", ["logits", "of direct effect"], key="unit")
    bars = ask(parts_sql)
    st.caption(
        f"Means over {among}, with "
        + ("95 % intervals" if of_effect else "two standard errors on both sides")
        + ", clustered by prompt. The parts add up to the total."
        + (" A single prompt has no interval." if noise["n_prompts"] == 1 else "")
    )
    named = "Share of direct effect" if of_effect else "Self-repair [logits]"
    show(part_bars(bars, named, ".0%" if of_effect else ".3~f"), bars, parts_sql, name="head_parts")

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("How far prompts differ")
    bins = ask(bins_sql)
    st.caption(f"Mean self-repair of each of {noise['n_prompts']:,} prompts, all positions.")
    show(prompt_histogram(bins, found["all"]["mean_self_repair"]), bins, bins_sql, name="head_prompts")
    facts("head_noise", noise_frame.select(NOISE))
    below(noise_frame, noise_sql, name="head_noise")
with right:
    st.subheader("How heavy its tail is")
    st.caption(
        f"{effect_title(effect)}: the share of all rows that reach a value. A straight line would be a power law."
    )
    curve = ask(curve_sql)
    if curve.is_empty():
        st.info("No row is above 0, and a logarithmic axis has nothing to show.", icon=":material/info:")
    else:
        show(tail_of_head(curve, effect_title(effect)), curve, curve_sql, name="head_tail")
    tail = ask(tail_sql)
    facts("head_tail", tail.select(TAIL))
    below(tail, tail_sql, name="head_tail_numbers")

st.subheader("Where it acts most")
top = ask(top_sql)
told = top.head(MOST_TOLD)
st.caption(
    f"The {told.height:,} rows with the highest direct effect, of its top 2 %"
    + (f"; the data have {top.height:,}" if told.height < top.height else "")
    + ". · is a blank, ⏎ the end of a line."
)
address = {name: st.query_params[name] for name in SIDEBAR if name in st.query_params} | {"head": label}
records(
    "top_effect",
    told.with_columns(visible_column("token"), visible_column("target")),
    [
        f"tokens?{urlencode(address | {'prompt': prompt, 'locked': pos})}"
        for prompt, pos in told.select("prompt_id", "pos").iter_rows()
    ],
    to=("Text", "The prompt in the Tokens page"),
)
below(top, top_sql, name="top_rows")
