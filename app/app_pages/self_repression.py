"""Self-repression and reinforcement: each head's direct effect after its own output is added to its input."""

import streamlit as st

from selfrepair.app.charts.mechanisms.self_repression import SIGNS, after_against_clean, slope_map
from selfrepair.app.charts.style.color_domain import color_domain, saturation_caption
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.not_measured import has_measured
from selfrepair.app.components.tables import column_headers
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.linked import linked_segments
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data import self_repression as queries
from selfrepair.app.data.query import prefetch, query_frame
from selfrepair.app.wording.columns import column, meaning

ADDED = {"own": "its own output", "other": "another head's output", "random": "a random direction"}

choice = choose_run()
run_id = choice.run["run_id"]
st.title("Self-repression")
heads = heads_or_stop(choice)
if not has_measured(choice, "self_repression"):
    st.stop()

multiples = [str(multiple) for multiple in query_frame(queries.multiples(run_id))["multiple"]]
with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    multiple = linked_segments(
        "Multiple of its own output", multiples, "multiple", meaning("self_repression", "multiple")
    )
of_label = {row["label"]: row for row in heads.to_dicts()}
where = queries.where_head(run_id, of_label[label]["layer"], of_label[label]["head"], multiple)
slopes_sql, fits_sql, rows_sql = queries.slopes(run_id, multiple), queries.fits(where), queries.rows(where)
prefetch([slopes_sql, fits_sql, rows_sql])
slopes, fits = query_frame(slopes_sql), query_frame(fits_sql)
of_all, of_one = (About(head=head, ablation="", population="all positions") for head in ("", label))
st.caption(
    f"{multiple} x a head's output is added to the input of its layer at the same position. The slope relates its direct "
    "effect after the addition to the one before, over all positions. Ablation and rows in the sidebar do not apply."
)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("All measured heads", help="Click a cell to choose its head.")
    domain = color_domain([slopes["slope"]], 1.0)
    chart = slope_map(slopes, label, domain)
    clickable_chart(chart, f"slope_map {multiple}")
    n_of = {verdict: (slopes["verdict"] == verdict).sum() for verdict in SIGNS}
    beyond = saturation_caption(slopes["slope"], domain, f" [{column('self_repression_slope', 'slope').unit}]")
    st.caption(
        f"Slope below 1: the more the head has written, the less it adds. {SIGNS['repressing']} {n_of['repressing']} of "
        f"{slopes.height:,} heads repress and {SIGNS['reinforcing']} {n_of['reinforcing']} reinforce themselves, by "
        f"more than 0.05 against 1 and the controls. {beyond or ''}"
    )
    data_popover(slopes, slopes_sql, name="slope_map", chart=chart, about=of_all)
with right:
    st.subheader(label)
    if fits.is_empty():
        layers = sorted(set(slopes["layer"]))
        st.info(
            f"{label} was not measured; heads of layers {layers[0]} to {layers[-1]} were. Choose one in the map.",
            icon=":material/info:",
        )
    else:
        rows = query_frame(rows_sql)
        (of_chosen,) = slopes.filter(slopes["label"] == label).to_dicts()
        slope_texts = ", ".join(
            f"{ADDED[fit['added_vector']]} {'none' if fit['slope'] is None else format(fit['slope'], '.3f')}"
            for fit in fits.to_dicts()
        )
        st.caption(
            f"A sample of {rows.height:,} of {fits['n_rows'].sum():,} rows. Slopes over all rows: {slope_texts}. "
            f"Verdict: {of_chosen['verdict'] or 'none'}. On the dashed line the addition changes nothing."
        )
        show_figure(after_against_clean(rows, fits), rows, rows_sql, name="self_repression_rows", about=of_one)

st.subheader("Slopes of all heads and of the controls", help=meaning("self_repression_slope", "verdict"))
shown = slopes.drop("layer", "head")
st.dataframe(
    shown.sort("slope", nulls_last=True),
    hide_index=True,
    height=420,
    column_config=column_headers("self_repression_slope", shown.columns),
)
data_popover(slopes, slopes_sql, name="self_repression_slope", about=of_all)
with st.expander(f"Fits of {label}"):
    st.dataframe(fits, hide_index=True, column_config=column_headers("self_repression_fits", fits.columns))
    data_popover(fits, fits_sql, name="self_repression_fits", about=of_one)
