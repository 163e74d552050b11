"""How much the chosen model self-repairs, by component and depth, and whether each run can be trusted."""

import streamlit as st

from selfrepair.app.charts.models.figure_1 import by_depth
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.optional_caption import optional_caption
from selfrepair.app.components.tables import record_table
from selfrepair.app.controls.linked import linked_segments
from selfrepair.app.controls.sidebar import all_runs, choose_run
from selfrepair.app.data.choice import POPULATIONS, UNITS, has
from selfrepair.app.data.heads import PARTS
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import column, meaning, words
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.which_run import Run, label_of, title_of

FRACTIONS = {
    "total": "total_fraction_of_effect",
    "LayerNorm": "layernorm_fraction_of_effect",
    "attention": "attention_fraction_of_effect",
    "MLP": "mlp_fraction_of_effect",
    "post-norm": "post_norm_fraction_of_effect",
}

LISTED = (
    *("run_id", "run_name", "model", "status", "health", "rows_stored", "identity_error_max", "crosscheck_error_max"),
    *("crosscheck_tolerance", "share_undefined_ratios", "settings_differ"),
)
"""Columns of `run_health` that the page shows; the data below have all."""


def is_comparable(run: Run, chosen: Run) -> bool:
    """True where both scored the same logit with the same given heads, so that their numbers can share a chart."""
    return all(run[name] == chosen[name] for name in ("logit_of", "given_heads"))


choice = choose_run()
parts = choice.only(PARTS)
st.title("How much does this model self-repair?")
st.caption(
    f"Self-repair: how much of the drop in a head's direct effect (direct logit attribution, DLA) the rest of the model "
    f"compensates for when the head is ablated ({choice.ablation} ablation), by component. "
    f"Rows used: {POPULATIONS[choice.population]}; [ ]: 95 % interval, clustered by document."
)
key_numbers = st.container()

st.subheader("Self-repair by component and depth")
with st.container(horizontal=True):
    part = linked_segments("Component", parts, key="part")
    unit = linked_segments("Unit", UNITS, key="unit")
measure = FRACTIONS[part] if unit == UNITS[1] else f"mean_{parts[part]}"
comparable = [run for run in all_runs() if is_comparable(run, choice.run) and has(run, part)]
conditions = (
    f"run_id IN ({', '.join(str(run['run_id']) for run in comparable)})\n"
    f"    AND ablation = {literal(choice.ablation)} AND population = {literal(choice.population)}"
)
titles = {run["run_id"]: title_of(run) for run in comparable}
run_title = "model || ' (run ' || run_id || ')' AS run"
if any(run["run_name"] is not None for run in comparable):
    cases = " ".join(f"WHEN {number} THEN {literal(title)}" for number, title in titles.items())
    run_title = f"CASE run_id {cases} END AS run"
means, fractions = [f"mean_{source}" for source in parts.values()], [FRACTIONS[name] for name in parts]
ends = [f"{fraction}_{end}" for fraction in fractions for end in ("low", "high")]
numbers_sql = f"SELECT {', '.join([*means, *fractions, *ends])}\nFROM model_repair\nWHERE {choice.where}"
heads_sql = f"SELECT {run_title}, label, depth, {measure}\nFROM head_repair\nWHERE {conditions}"
layers_sql = f"SELECT {run_title}, depth, {measure}\nFROM layer_repair\nWHERE {conditions}"
health_sql = "FROM run_health\nORDER BY run_id"
prefetch([numbers_sql, heads_sql, layers_sql, health_sql])

with key_numbers:
    numbers = query_frame(numbers_sql)
    if numbers.is_empty():
        st.info("This run has no summaries yet: run `selfrepair refresh`.")
        st.stop()
    (run,) = numbers.to_dicts()
    for place, (name, source) in zip(st.columns(len(parts)), parts.items(), strict=True):
        mean, fraction = f"mean_{source}", FRACTIONS[name]
        low, high = run[f"{fraction}_low"], run[f"{fraction}_high"]
        interval = "" if low is None else f" [{low:.1%}, {high:.1%}]"
        place.metric(
            f"{words(source)} [{column('model_repair', mean).unit}]",
            f"{run[mean]:.3f}",
            None if run[fraction] is None else f"{run[fraction]:.1%}{interval} of the direct effect",
            delta_color="off",
            delta_arrow="off",
            help=f"{meaning('model_repair', mean)}  \n{meaning('model_repair', fraction)}; [ ]: its 95 % interval.",
            border=True,
        )
shown = ", ".join(f"run {label_of(run)} of {run['model']}" for run in comparable)
show_figure(
    by_depth(query_frame(heads_sql), query_frame(layers_sql), measure),
    query_frame(heads_sql),
    heads_sql,
    name="figure_1",
    about=About(runs=shown),
)
others = [run for run in all_runs() if not is_comparable(run, choice.run)]
optional_caption("Only runs that score the same logit with the same given heads are shown." if others else None)

st.subheader("Runs")
health = query_frame(health_sql)
is_named = health["run_name"].is_not_null().any()
record_table("run_health", health.select([name for name in LISTED if is_named or name != "run_name"]))
every = About(runs="all runs", ablation="", population="")
data_popover(health, health_sql, name="runs", about=every)
