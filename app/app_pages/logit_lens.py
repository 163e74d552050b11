"""The logit lens by layer, self-repair where it is correct or wrong, and agreement between measures of importance."""

import streamlit as st

from selfrepair.app.charts.heads.dots import head_dots
from selfrepair.app.charts.mechanisms.logit_lens import logprob_by_layer, shares_by_layer
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.not_measured import has_measured
from selfrepair.app.components.tables import column_headers
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data import logit_lens as queries
from selfrepair.app.data.choice import POPULATIONS
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import meaning
from selfrepair.queries.catalog.quoting import literal

choice = choose_run()
st.title("Logit lens")
heads = heads_or_stop(choice)

if has_measured(choice, "logit_lens"):
    # the view has no population without position 0
    population = "all" if choice.population == "all" else "top2"
    layers_sql = queries.by_layer(choice.run["run_id"])
    logit_lens_sql = queries.repair_by_logit_lens(f"{choice.where_rows} AND population = {literal(population)}")
    prefetch([layers_sql, logit_lens_sql])
    layers, logit_lens = query_frame(layers_sql), query_frame(logit_lens_sql)

    st.caption(
        "The residual stream after each layer of the clean run, read through the final norm and the unembedding, at "
        f"{layers['n_rows'][0]:,} positions. Ablation and rows in the sidebar do not apply."
    )
    clean = About(ablation="", population="")
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Mean log-probability of the target", help=meaning("logit_lens_by_layer", "mean_target_logprob"))
        show_figure(logprob_by_layer(layers), layers, layers_sql, name="logit_lens_logprob", about=clean)
    with right:
        st.subheader("Where the target is predicted", help=meaning("logit_lens_by_layer", "top1_from_here_share"))
        show_figure(shares_by_layer(layers), layers, layers_sql, name="logit_lens_shares", about=clean)
    st.caption("Correct from here on: the target is top-1 after this layer and every later one.")

    st.header("Is there more self-repair where the logit lens is still wrong?", divider="gray")
    label = choose_head(heads)
    with_first = "" if population == choice.population else " (with position 0)"
    st.caption(
        f"Rows used: {POPULATIONS[population]}{with_first}; {choice.ablation} ablation. Wrong: after the head's layer the "
        "target is not top-1. Above the dashed line there is more self-repair where it is wrong. Click a dot to choose it."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        x, y = "mean_self_repair_right", "mean_self_repair_wrong"
        more = ["self_repair_difference", "self_repair_difference_se", "n_right", "n_wrong"]
        dots = head_dots(logit_lens, "repair_by_logit_lens", x, y, label, more)
        clickable_chart(dots, "repair_by_logit_lens")
    with right:
        shown = logit_lens.drop("layer").sort(
            "self_repair_difference", descending=True, nulls_last=True, maintain_order=True
        )
        st.dataframe(
            shown, hide_index=True, height=420, column_config=column_headers("repair_by_logit_lens", shown.columns)
        )
    about = About(population=population)
    data_popover(logit_lens, logit_lens_sql, name="repair_by_logit_lens", chart=dots, about=about)

st.header("Do measures agree on which heads matter?", divider="gray")
if has_measured(choice, "logprobs"):
    agreement_sql = queries.agreement(choice.run["run_id"])
    agreement = query_frame(agreement_sql)
    st.caption(
        "Agreement of rankings of heads by |mean change| over all rows: in logit, in log-probability, and in KL divergence."
    )
    st.dataframe(agreement, hide_index=True, column_config=column_headers("measure_agreement", agreement.columns))
    data_popover(agreement, agreement_sql, name="measure_agreement", about=About(ablation="every", population="all"))
