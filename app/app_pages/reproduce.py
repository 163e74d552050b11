"""Whether a run gives the paper's own numbers: head by head, claim by claim; and how self-repair comes about in training."""

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
from selfrepair.app.components.figure import below, show
from selfrepair.app.components.headers import headers
from selfrepair.app.components.html_table import sentences
from selfrepair.app.components.not_measured import say_without_checkpoints
from selfrepair.app.controls.head import choose_head, heads_of_run
from selfrepair.app.controls.head_click import clickable
from selfrepair.app.controls.named_list import choose_name
from selfrepair.app.controls.one_of import one_of
from selfrepair.app.controls.sidebar import choose
from selfrepair.app.data import published as queries
from selfrepair.app.data.answers import ask, ask_ahead, warehouse_path
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.published import HUB_IDS
from selfrepair.app.wording.columns import column, meaning, words
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.relations import relations

# What the widget offers is also what links hold: words, with the level that stands for them in the view.
LEVELS = {"all heads": "model", "each layer": "layer", "one head": "head"}
TRAINED = [
    column.name.removesuffix("_se")
    for column in relations()["repair_over_training"].columns
    if column.name.endswith("_se")
]
"""Measures of `repair_over_training` that have a standard error."""


def say_what_is_compared() -> None:
    """The command that adds a run of a published model."""
    st.info(
        "This run is none of a model whose heads the paper's authors published, or not as they measured it: its final "
        "weights (revision main), resample ablation, no heads given. This command measures one that is and lays it beside the "
        "paper:",
        icon=":material/compare:",
    )
    st.code(
        shlex.join(["selfrepair", "reproduce", next(iter(HUB_IDS)), "--db", str(warehouse_path())]), language="bash"
    )
    st.caption(f"Published are {', '.join(HUB_IDS)}. `--dry-run` says before what it would take.")


def over_heads(run_id: int, population: str, published_run: str, quantity: str, label: str) -> None:
    """One quantity head by head, and how far all of them agree."""
    heads_sql = queries.heads(run_id, population, published_run, quantity)
    agreements_sql = queries.agreements(run_id, population, published_run)
    ask_ahead([heads_sql, agreements_sql, queries.claims(run_id), queries.self_repression(run_id)])
    heads, agreements = ask(heads_sql), ask(agreements_sql)
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader(f"{words(quantity)}, head by head", help=meaning("head_repair", queries.column_of(quantity)))
        if heads.is_empty():
            st.info(f"{words(quantity)} was not published for this run of the authors; choose another one.")
        else:
            unit = f" [{column('head_repair', queries.column_of(quantity)).unit}]"
            chart = measured_against_published(heads, words(quantity), unit, label)
            clickable(chart, f"published {quantity} {published_run}")
            st.caption("On the dashed line both are the same. Click a dot to choose its head.")
            below(heads, heads_sql, name="reproduction", chart=chart)
    with right:
        st.subheader("Agreement over heads", help=meaning("reproduction_agreement", "verdict"))
        show(agreement_with_intervals(agreements), agreements, agreements_sql, name="agreement")
        st.caption("Diamond: how far two runs of the authors' own agree, of pythia-160m. A line is a 95 % interval.")
    shown = agreements.with_columns(pl.col("quantity").map_elements(words, pl.String))
    st.dataframe(shown, hide_index=True, column_config=headers("reproduction_agreement", shown.columns))


def claim_by_claim(run_id: int) -> None:
    """The paper's claims as a picture, and in words."""
    st.header("The paper's claims", divider="gray", help=meaning("reproduction_claims", "verdict"))
    sql = queries.claims(run_id)
    claims = ask(sql)
    show(claims_with_intervals(claims), claims, sql, name="claims")
    st.caption(
        "Over each head's top 2 %; tails and noise over all rows. A dot is this run's value, with its 95 % interval where "
        "there is one. Diamond: the published number. Tick: the paper's words say that the value lies above. A claim agrees up "
        "to 0.05 beyond its interval."
    )
    rows = [
        (
            words(claim["claim"]),
            claim["statement"],
            number(claim["value"]),
            interval(claim),
            paper(claim),
            claim["verdict"] or "none",
        )
        for claim in claims.to_dicts()
    ]
    names = ["Claim", "What it is", "This run", "95 % interval", "The paper", "Verdict"]
    sentences(pl.DataFrame(rows, schema=names, orient="row"))


def number(value: float | None) -> str:
    """A share or ratio as text."""
    return "none" if value is None else f"{value:.3f}"


def interval(claim: dict[str, Any]) -> str:
    """The interval of a claim as text."""
    return "none" if claim["low"] is None else f"{number(claim['low'])} to {number(claim['high'])}"


def paper(claim: dict[str, Any]) -> str:
    """What the paper has for a claim: a number, or what its words say that the value lies above."""
    return (
        f"above {claim['expected_above']:g}" if claim["published_value"] is None else number(claim["published_value"])
    )


def self_repression(run_id: int) -> None:
    """Slopes of self-repression beside the published ones, where the run measured self-repression."""
    sql = queries.self_repression(run_id)
    self_repression = ask(sql)
    if not self_repression.is_empty():
        st.header("Self-repression", divider="gray", help=meaning("self_repression_reproduction", "same_side"))
        st.dataframe(
            self_repression,
            hide_index=True,
            column_config=headers("self_repression_reproduction", self_repression.columns),
        )
        below(self_repression, sql, name="self_repression_reproduction")


def in_training(choice: Choice, label: str) -> None:
    """One measure over the checkpoints that were measured like this run; what adds one where it is alone."""
    st.header("Over training", divider="gray", help=meaning("repair_over_training", "series_id"))
    series = ask(queries.series(choice.run["run_id"], choice.ablation))
    if series.is_empty():
        say_without_checkpoints(choice)
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = choose_name("Measure", TRAINED, "training_measure", words, first="mean_self_repair", width=320)
        level = one_of("Of", LEVELS, "training_of", meaning("repair_over_training", "level"))
    which = f" AND label = {literal(label)}" if level == "one head" else ""
    sql = queries.training(
        series["series_id"][0],
        f"ablation = {literal(choice.ablation)} AND population = {literal(choice.population)}\n"
        f"    AND level = {literal(LEVELS[level])}{which}",
        measure,
    )
    points = ask(sql)
    whose = label if level == "one head" else level
    st.caption(
        f"{words(measure)} of {whose} over {POPULATIONS[choice.population]}, {choice.ablation}, at every checkpoint measured "
        "the same way. Checkpoints stand evenly, whatever lies between them."
    )
    show(over_training(points, measure), points, sql, name="training")


choice = choose()
st.title("Reproduce")
heads = heads_of_run(choice)
if heads.is_empty():
    st.info("This run has no summaries, or failed its cross-check: `selfrepair refresh`, then `selfrepair runs`.")
    st.stop()
run_id = choice.run["run_id"]
population = "all" if choice.population == "all" else "top2"  # none was published without position 0
published = ask(queries.published_runs(run_id, population))
only_top = population == "all" and published.is_empty()
if only_top:
    population = "top2"
    published = ask(queries.published_runs(run_id, population))
with st.container(horizontal=True, vertical_alignment="bottom"):
    label = choose_head(heads)
    if not published.is_empty():
        quantity = choose_name("Quantity", queries.QUANTITIES, "quantity", words, first="self_repair", width=280)
        published_run = choose_name(
            "Run of the authors",
            published["published_run"].to_list(),
            "published",
            help=meaning("reproduction", "published_run"),
            width=200,
        )
if published.is_empty():
    say_what_is_compared()
else:
    noted = " (with position 0)" if choice.population == "top2_nobos" else ""
    only = f" Of this model only {POPULATIONS[population]} was published." if only_top else ""
    st.caption(
        f"Against the paper's {published['published_model'][0]}: means over {POPULATIONS[population]}{noted}, resample "
        f"ablation, whatever the sidebar says.{only} The authors measured other text: order and magnitude "
        "should agree, not decimals."
    )
    over_heads(run_id, population, published_run, quantity, label)
    claim_by_claim(run_id)
    self_repression(run_id)
in_training(choice, label)
