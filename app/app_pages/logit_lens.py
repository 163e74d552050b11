"""When the model has its answer, whether heads are repaired where it is still wrong, and whether measures agree."""

import streamlit as st

from selfrepair.app.charts.heads.dots import head_dots
from selfrepair.app.charts.mechanisms.logit_lens import likely_by_layer, right_by_layer
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import headers
from selfrepair.app.components.not_measured import has_measured
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data import logit_lens as queries
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.wording.columns import meaning
from selfrepair.queries.catalog.quoting import literal

choice = choose()
st.title("Logit lens")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()

if has_measured(choice, "logit_lens"):
    # the view knows no population without position 0
    population = "all" if choice.population == "all" else "top2"
    layers_sql = queries.by_layer(choice.run["run_id"])
    logit_lens_sql = queries.repair_by_logit_lens(f"{choice.where_rows} AND population = {literal(population)}")
    ask_ahead([layers_sql, logit_lens_sql])
    layers, logit_lens = ask(layers_sql), ask(logit_lens_sql)

    st.caption(
        "The residual stream after each layer, read through the final norm and the unembedding, nothing ablated, over "
        f"{layers['n_rows'][0]:,} positions; ablation and population in the sidebar do not matter."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("How likely the target already is", help=meaning("logit_lens_by_layer", "mean_target_logprob"))
        show(likely_by_layer(layers), layers, layers_sql, name="logit_lens_logprob")
    with right:
        st.subheader("Where it comes first", help=meaning("logit_lens_by_layer", "top1_from_here_share"))
        show(right_by_layer(layers), layers, layers_sql, name="logit_lens_shares")
    st.caption("Settled: the target is first there and after every later layer.")

    st.header("Repaired where the answer is still wrong?", divider="gray")
    label = choose_head(heads)
    noted = "" if population == choice.population else " (with position 0)"
    st.caption(
        f"Means over {POPULATIONS[population]}{noted}, {choice.ablation}. Wrong: after the head's layer the target is not "
        "the most likely token. Above the dashed line more is given back where it is wrong. Click a dot to choose its head."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        x, y = "mean_self_repair_right", "mean_self_repair_wrong"
        more = ["self_repair_difference", "self_repair_difference_se", "n_right", "n_wrong"]
        dots = head_dots(logit_lens, "repair_by_logit_lens", x, y, label, more)
        clickable(dots, "repair_by_logit_lens")
    with right:
        shown = logit_lens.drop("layer").sort(
            "self_repair_difference", descending=True, nulls_last=True, maintain_order=True
        )
        st.dataframe(shown, hide_index=True, height=420, column_config=headers("repair_by_logit_lens", shown.columns))
    below(logit_lens, logit_lens_sql, name="repair_by_logit_lens", chart=dots)

st.header("Do measures agree on which heads matter?", divider="gray")
if has_measured(choice, "logprobs"):
    agreement_sql = queries.agreement(choice.run["run_id"])
    agreement = ask(agreement_sql)
    st.caption(
        "Heads by the size of their mean change over all rows: in logit, in log-probability, and as divergence (kl)."
    )
    st.dataframe(agreement, hide_index=True, column_config=headers("measure_agreement", agreement.columns))
    below(agreement, agreement_sql, name="measure_agreement")
