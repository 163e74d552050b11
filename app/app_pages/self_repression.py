"""Whether heads repress or reinforce themselves: their own output added to their own input."""

import streamlit as st

from selfrepair.app.charts.mechanisms.self_repression import SIGNS, fed_against_clean, slope_map
from selfrepair.app.charts.style.color_domain import domain_of, told_beyond
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import headers
from selfrepair.app.components.not_measured import has_measured
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.one_of import one_of
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data import self_repression as queries
from selfrepair.app.data.answers import ask, ask_ahead
from selfrepair.app.wording.columns import column, meaning

ADDED = {"own": "its own output", "other": "another head's output", "random": "a random direction"}

choice = choose()
run_id = choice.run["run_id"]
st.title("Self-repression")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()
if not has_measured(choice, "self_repression"):
    st.stop()

multiples = [str(multiple) for multiple in ask(queries.multiples(run_id))["multiple"]]
with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    multiple = one_of("Added, times", multiples, "multiple", meaning("self_repression", "multiple"))
if multiple not in multiples:  # a link may hold anything
    multiple = multiples[0]
of_label = {row["label"]: row for row in heads.to_dicts()}
where = queries.where_head(run_id, of_label[label]["layer"], of_label[label]["head"], multiple)
slopes_sql, fits_sql, rows_sql = queries.slopes(run_id, multiple), queries.fits(where), queries.rows(where)
ask_ahead([slopes_sql, fits_sql, rows_sql])
slopes, fits = ask(slopes_sql), ask(fits_sql)
times = "once" if multiple == "1" else f"{multiple} times"
st.caption(
    f"A head's output is added to its own layer's input at the same position, {times}. What it then writes towards the "
    "target is compared with what it wrote before, over all positions; ablation and population in the sidebar do not matter."
)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("All measured heads", help="Click a cell to choose its head.")
    domain = domain_of([slopes["slope"]], 1.0)
    chart = slope_map(slopes, label, domain)
    clickable(chart, f"slope_map {multiple}")
    n_of = {verdict: (slopes["verdict"] == verdict).sum() for verdict in SIGNS}
    beyond = told_beyond(slopes["slope"], domain, f" [{column('self_repression_slope', 'slope').unit}]")
    st.caption(
        f"Slope below 1: the more it has written, the less it adds. {SIGNS['repressing']} {n_of['repressing']} of "
        f"{slopes.height:,} repress themselves, {SIGNS['reinforcing']} {n_of['reinforcing']} reinforce themselves, "
        f"both more surely than with the controls. {beyond or ''}"
    )
    below(slopes, slopes_sql, name="slope_map", chart=chart)
with right:
    st.subheader(label)
    if fits.is_empty():
        layers = sorted(set(slopes["layer"]))
        st.info(
            f"{label} was not measured; heads of layers {layers[0]} to {layers[-1]} were. Choose one in the map.",
            icon=":material/info:",
        )
    else:
        rows = ask(rows_sql)
        (of_chosen,) = slopes.filter(slopes["label"] == label).to_dicts()
        told = ", ".join(
            f"{ADDED[fit['added_vector']]} {'none' if fit['slope'] is None else format(fit['slope'], '.3f')}"
            for fit in fits.to_dicts()
        )
        st.caption(
            f"{rows.height:,} rows of {fits['n_rows'].sum():,}, drawn evenly. Slopes through all: {told}. "
            f"Verdict: {of_chosen['verdict'] or 'none'}. On the dashed line nothing changes."
        )
        show(fed_against_clean(rows, fits), rows, rows_sql, name="feedback_rows")

st.subheader("Every head's slope, and the controls'", help=meaning("self_repression_slope", "verdict"))
shown = slopes.drop("layer", "head")
st.dataframe(
    shown.sort("slope", nulls_last=True),
    hide_index=True,
    height=420,
    column_config=headers("self_repression_slope", shown.columns),
)
below(slopes, slopes_sql, name="self_repression_slope")
with st.expander(f"The fits of {label}"):
    st.dataframe(fits, hide_index=True, column_config=headers("self_repression_fits", fits.columns))
    below(fits, fits_sql, name="self_repression_fits")
