"""A run against the paper's published numbers, by head and by claim; and self-repair over training."""

import dataclasses
import shlex
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.charts.models.reproduction import (
    agreement_with_intervals,
    claims_with_intervals,
    measured_against_published,
)
from selfrepair.app.charts.models.training import over_training
from selfrepair.app.components.about import About
from selfrepair.app.components.figure import data_popover, show_figure
from selfrepair.app.components.html_table import text_table
from selfrepair.app.components.not_measured import explain_missing_checkpoints
from selfrepair.app.components.tables import column_headers
from selfrepair.app.controls.head import choose_head, heads_or_stop
from selfrepair.app.controls.head_click import clickable_chart
from selfrepair.app.controls.linked import linked_segments, linked_selectbox
from selfrepair.app.controls.sidebar import choose_run
from selfrepair.app.data import published as queries
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.published import HUB_IDS
from selfrepair.app.data.query import prefetch, query_frame, warehouse_path
from selfrepair.app.wording.columns import column, meaning, words
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.relations import relations

# Options of a widget, which links hold as well, with their levels in the view.
LEVELS = {"all heads": "model", "each layer": "layer", "one head": "head"}
TRAINED = [
    column.name.removesuffix("_se")
    for column in relations()["repair_over_training"].columns
    if column.name.endswith("_se")
]
"""Measures of `repair_over_training` that have a standard error."""


def explain_not_published() -> None:
    """Show the command that measures a model with published numbers."""
    st.info(
        "There are no published numbers for this run: they exist for some models only, with their final weights (revision "
        "main), resample ablation and no given heads. This command measures such a model and compares it with the paper:",
        icon=":material/compare:",
    )
    st.code(
        shlex.join(["selfrepair", "reproduce", next(iter(HUB_IDS)), "--db", str(warehouse_path())]), language="bash"
    )
    st.caption(f"Models with published numbers: {', '.join(HUB_IDS)}. `--dry-run` prints the estimated cost.")


def over_heads(run_id: int, population: str, published_run: str, quantity: str, label: str) -> None:
    """Draw one quantity head by head, and the agreement over heads of all quantities."""
    heads_sql = queries.heads(run_id, population, published_run, quantity)
    agreements_sql = queries.agreements(run_id, population, published_run)
    prefetch([heads_sql, agreements_sql, queries.claims(run_id), queries.self_repression(run_id)])
    heads, agreements = query_frame(heads_sql), query_frame(agreements_sql)
    about = About(ablation="resample", population=population, bars="two standard errors each way, of the run's numbers")
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader(f"{words(quantity)} by head", help=meaning("head_repair", queries.column_of(quantity)))
        if heads.is_empty():
            st.info(f"{words(quantity)} was not published for this run of the authors; choose another run or quantity.")
        else:
            unit = f" [{column('head_repair', queries.column_of(quantity)).unit}]"
            chart = measured_against_published(heads, words(quantity), unit, label)
            clickable_chart(chart, f"published {quantity} {published_run}")
            st.caption("On the dashed line measured and published agree. Click a dot to choose its head.")
            data_popover(heads, heads_sql, name="reproduction", chart=chart, about=about)
    with right:
        st.subheader("Agreement over heads", help=meaning("reproduction_agreement", "verdict"))
        about = dataclasses.replace(about, bars="95 % intervals of the correlation over heads")
        show_figure(agreement_with_intervals(agreements), agreements, agreements_sql, name="agreement", about=about)
        st.caption("Diamond: run-to-run agreement of the authors' own data (pythia-160m). Lines: 95 % intervals.")
    shown = agreements.with_columns(pl.col("quantity").map_elements(words, pl.String))
    st.dataframe(shown, hide_index=True, column_config=column_headers("reproduction_agreement", shown.columns))


def claim_by_claim(run_id: int) -> None:
    """Draw the paper's claims as a chart and as a table."""
    st.header("The paper's claims", divider="gray", help=meaning("reproduction_claims", "verdict"))
    sql = queries.claims(run_id)
    claims = query_frame(sql)
    about = About(ablation="resample", population="", bars="95 % intervals of this run's values")
    show_figure(claims_with_intervals(claims), claims, sql, name="claims", about=about)
    st.caption(
        "Rows used: top 2 % by direct effect; for tails and noise all. Dot: this run's value, with its 95 % interval. Diamond: "
        "the published number. Tick: a lower bound from the paper's text. A claim agrees where its whole interval lies within "
        "the margin around the published number, or above the bound."
    )
    rows = [
        (
            words(claim["claim"]),
            claim["statement"],
            number(claim["value"]),
            interval(claim),
            paper(claim),
            claim["verdict"] or "none",
            claim["reason"] or "",
        )
        for claim in claims.to_dicts()
    ]
    names = ["Claim", "Statement", "This run", "95 % interval", "Paper", "Verdict", "Reason"]
    text_table(pl.DataFrame(rows, schema=names, orient="row"))


def number(value: float | None) -> str:
    """A share or ratio as text."""
    return "none" if value is None else f"{value:.3f}"


def interval(claim: dict[str, Any]) -> str:
    """The interval of a claim as text."""
    return "none" if claim["low"] is None else f"{number(claim['low'])} to {number(claim['high'])}"


def paper(claim: dict[str, Any]) -> str:
    """The paper's number for a claim, or its lower bound, as text."""
    return (
        f"above {claim['expected_above']:g}" if claim["published_value"] is None else number(claim["published_value"])
    )


def self_repression(run_id: int) -> None:
    """Draw slopes of self-repression beside the published ones, if the run measured it."""
    sql = queries.self_repression(run_id)
    self_repression = query_frame(sql)
    if not self_repression.is_empty():
        st.header("Self-repression", divider="gray", help=meaning("self_repression_reproduction", "same_side"))
        st.dataframe(
            self_repression,
            hide_index=True,
            column_config=column_headers("self_repression_reproduction", self_repression.columns),
        )
        data_popover(self_repression, sql, name="self_repression_reproduction", about=About(ablation="", population=""))


def in_training(choice: Choice, label: str) -> None:
    """Draw one measure over the checkpoints measured like this run, or the command that measures another one."""
    st.header("Over training", divider="gray", help=meaning("repair_over_training", "series_id"))
    series = query_frame(queries.series(choice.run["run_id"], choice.ablation))
    if series.is_empty():
        explain_missing_checkpoints(choice)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = linked_selectbox(
            "Measure", list(filter(choice.has, TRAINED)), "training_measure", words, first="mean_self_repair", width=320
        )
        level = linked_segments("Of", LEVELS, "training_of", meaning("repair_over_training", "level"))
    which = f" AND label = {literal(label)}" if level == "one head" else ""
    sql = queries.training(
        series["series_id"][0],
        f"ablation = {literal(choice.ablation)} AND population = {literal(choice.population)}\n"
        f"    AND level = {literal(LEVELS[level])}{which}",
        measure,
    )
    points = query_frame(sql)
    whose = label if level == "one head" else level
    st.caption(
        f"{words(measure)} of {whose} at every checkpoint measured with the same settings; {choice.ablation} ablation. "
        f"Rows used: {POPULATIONS[choice.population]}. Checkpoints are evenly spaced."
    )
    about = About(
        head=label if level == "one head" else "",
        bars="95 % intervals, clustered by document",
        runs=f"every checkpoint measured as run {choice.run['run_id']} of {choice.run['model']}",
    )
    show_figure(over_training(points, measure), points, sql, name="training", about=about)


choice = choose_run()
st.title("Reproduce")
heads = heads_or_stop(choice)
run_id = choice.run["run_id"]
population = "all" if choice.population == "all" else "top2"  # nothing was published without position 0
published = query_frame(queries.published_runs(run_id, population))
only_top = population == "all" and published.is_empty()
if only_top:
    population = "top2"
    published = query_frame(queries.published_runs(run_id, population))
with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    if not published.is_empty():
        quantity = linked_selectbox("Quantity", queries.QUANTITIES, "quantity", words, first="self_repair", width=280)
        published_run = linked_selectbox(
            "Run of the authors",
            published["published_run"].to_list(),
            "published",
            help=meaning("reproduction", "published_run"),
            width=200,
        )
if published.is_empty():
    explain_not_published()
else:
    with_first = " (with position 0)" if choice.population == "top2_nobos" else ""
    only = " For this model, only the top 2 % were published." if only_top else ""
    st.caption(
        f"Against the paper's {published['published_model'][0]}, with resample ablation whatever the sidebar selects. "
        f"Rows used: {POPULATIONS[population]}{with_first}.{only} The authors measured other text, so expect the same order "
        "and magnitude of heads, not the same decimals."
    )
    over_heads(run_id, population, published_run, quantity, label)
    claim_by_claim(run_id)
    self_repression(run_id)
in_training(choice, label)
