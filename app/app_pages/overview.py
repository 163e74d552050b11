"""Which models are here, whether their numbers can be trusted, and how much they repair themselves."""

import streamlit as st

from selfrepair.app.asking.answers import ask
from selfrepair.app.charts.figure_1 import by_depth
from selfrepair.app.choosing.choice import POPULATIONS, choose
from selfrepair.app.choosing.one_of import one_of
from selfrepair.app.showing.figure import below, show
from selfrepair.app.showing.wording import column, meaning, title
from selfrepair.queries.quoting import literal

PARTS = {"total": "self_repair", "LayerNorm": "repair_layernorm", "attention": "repair_attention", "MLP": "repair_mlp"}
FRACTIONS = {
    "total": "total_fraction_of_effect",
    "LayerNorm": "layernorm_fraction_of_effect",
    "attention": "attention_fraction_of_effect",
    "MLP": "mlp_fraction_of_effect",
}

choice = choose()
st.title("Overview")

sql = f"FROM model_repair\nWHERE {choice.where}"
numbers = ask(sql)
if numbers.is_empty():
    st.info("This run has no summaries yet: `selfrepair refresh`.")
    st.stop()
st.caption(
    f"What the rest of the model gives back to the correct token when one head is gone ({choice.ablation} ablation): "
    f"self-repair, and what it is made of. Means over {POPULATIONS[choice.population]}; ±: 95 % interval, clustered by prompt."
)
(run,) = numbers.to_dicts()
for place, (part, source) in zip(st.columns(4), PARTS.items(), strict=True):
    mean, fraction = f"mean_{source}", FRACTIONS[part]
    low, high = run[f"{fraction}_low"], run[f"{fraction}_high"]
    interval = "" if low is None else f" ± {(high - low) / 2:.1%}"
    place.metric(
        f"{'Self-repair' if part == 'total' else f'{part[:1].upper()}{part[1:]}'} [{column('model_repair', mean).unit}]",
        f"{run[mean]:.3f}",
        None if run[fraction] is None else f"{run[fraction]:.1%}{interval} of direct effect",
        delta_color="off",
        delta_arrow="off",
        help=f"{meaning('model_repair', mean)}  \n{meaning('model_repair', fraction)}; ±: its 95 % interval.",
        border=True,
    )

st.subheader("Self-repair by depth")
with st.container(horizontal=True):
    part = one_of("Part", PARTS, key="part")
    unit = one_of("Unit", ["logits", "of direct effect"], key="unit")
measure = FRACTIONS[part] if unit == "of direct effect" else f"mean_{PARTS[part]}"
conditions = f"ablation = {literal(choice.ablation)} AND population = {literal(choice.population)}"
named = "model || ' (run ' || run_id || ')' AS run"
sql = f"SELECT {named}, label, depth, {measure}\nFROM head_repair\nWHERE {conditions}"
layers = ask(f"SELECT {named}, depth, {measure}\nFROM layer_repair\nWHERE {conditions}")
show(by_depth(ask(sql), layers, measure), ask(sql), sql, name="figure_1")

st.subheader("Runs")
sql = "FROM run_health\nORDER BY run_id"
health = ask(sql)
st.dataframe(
    health,
    hide_index=True,
    column_config={
        name: st.column_config.Column(title("run_health", name), help=meaning("run_health", name))
        for name in health.columns
    },
)
below(health, sql, name="runs")
