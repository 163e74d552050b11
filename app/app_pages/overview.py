"""Which models are here, whether their numbers can be trusted, and how much they repair themselves."""

import streamlit as st

from selfrepair.app.charts.models.figure_1 import by_depth
from selfrepair.app.components.asides import aside
from selfrepair.app.components.export_context import forget, note
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import records
from selfrepair.app.controls.one_of import one_of
from selfrepair.app.controls.sidebar import choose, runs_of_warehouse
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.wording.columns import column, meaning
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.which_run import Run

PARTS = {"total": "self_repair", "LayerNorm": "repair_layernorm", "attention": "repair_attention", "MLP": "repair_mlp"}
FRACTIONS = {
    "total": "total_fraction_of_effect",
    "LayerNorm": "layernorm_fraction_of_effect",
    "attention": "attention_fraction_of_effect",
    "MLP": "mlp_fraction_of_effect",
}

LISTED = (
    *("run_id", "model", "status", "health", "rows_stored", "identity_error_max", "crosscheck_error_max"),
    *("crosscheck_tolerance", "share_undefined_ratios", "settings_differ"),
)
"""What is told of every run; its data have the rest."""


def is_alike(run: Run, chosen: Run) -> bool:
    """True where both measured the same logit, with the same heads gone: their numbers go into one picture."""
    return all(run[name] == chosen[name] for name in ("logit_of", "given_heads"))


choice = choose()
st.title("Overview")
st.caption(
    f"What the rest of the model gives back to the correct token when one head is gone ({choice.ablation} ablation): "
    f"self-repair, and what it is made of. Means over {POPULATIONS[choice.population]}; ±: 95 % interval, clustered by prompt."
)
key_numbers = st.container()

st.subheader("Self-repair by depth")
with st.container(horizontal=True):
    part = one_of("Part", PARTS, key="part")
    unit = one_of("Unit", ["logits", "of direct effect"], key="unit")
measure = FRACTIONS[part] if unit == "of direct effect" else f"mean_{PARTS[part]}"
beside = [run for run in runs_of_warehouse() if is_alike(run, choice.run)]
conditions = (
    f"run_id IN ({', '.join(str(run['run_id']) for run in beside)})\n"
    f"    AND ablation = {literal(choice.ablation)} AND population = {literal(choice.population)}"
)
named = "model || ' (run ' || run_id || ')' AS run"
means, fractions = [f"mean_{source}" for source in PARTS.values()], list(FRACTIONS.values())
ends = [f"{fraction}_{end}" for fraction in fractions for end in ("low", "high")]
numbers_sql = f"SELECT {', '.join([*means, *fractions, *ends])}\nFROM model_repair\nWHERE {choice.where}"
heads_sql = f"SELECT {named}, label, depth, {measure}\nFROM head_repair\nWHERE {conditions}"
layers_sql = f"SELECT {named}, depth, {measure}\nFROM layer_repair\nWHERE {conditions}"
health_sql = "FROM run_health\nORDER BY run_id"
ask_ahead([numbers_sql, heads_sql, layers_sql, health_sql])

with key_numbers:
    numbers = ask(numbers_sql)
    if numbers.is_empty():
        st.info("This run has no summaries yet: `selfrepair refresh`.")
        st.stop()
    (run,) = numbers.to_dicts()
    for place, (name, source) in zip(st.columns(4), PARTS.items(), strict=True):
        mean, fraction = f"mean_{source}", FRACTIONS[name]
        low, high = run[f"{fraction}_low"], run[f"{fraction}_high"]
        interval = "" if low is None else f" ± {(high - low) / 2:.1%}"
        place.metric(
            f"{'Self-repair' if name == 'total' else name[:1].upper() + name[1:]} [{column('model_repair', mean).unit}]",
            f"{run[mean]:.3f}",
            None if run[fraction] is None else f"{run[fraction]:.1%}{interval} of direct effect",
            delta_color="off",
            delta_arrow="off",
            help=f"{meaning('model_repair', mean)}  \n{meaning('model_repair', fraction)}; ±: its 95 % interval.",
            border=True,
        )
forget()
note("all runs", choice.ablation, choice.population)
show(by_depth(ask(heads_sql), ask(layers_sql), measure), ask(heads_sql), heads_sql, name="figure_1")
others = [run for run in runs_of_warehouse() if not is_alike(run, choice.run)]
aside("Only runs that measured the same logit, with the same heads gone." if others else None)

st.subheader("Runs")
health = ask(health_sql)
records("run_health", health.select(LISTED))
forget()
below(health, health_sql, name="runs")
