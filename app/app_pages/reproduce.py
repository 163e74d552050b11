"""Whether a run gives the paper's own numbers: head by head, claim by claim; and how self-repair comes about in training."""

import shlex

import polars as pl
import streamlit as st

from selfrepair.app.asking import of_published as queries
from selfrepair.app.asking.answers import ask, ask_ahead, warehouse_path
from selfrepair.app.charts.reproduction import claims_with_intervals, measured_against_published
from selfrepair.app.charts.training import over_training
from selfrepair.app.choosing.choice import POPULATIONS, Choice, choose
from selfrepair.app.choosing.head import choose_head, heads_of_run
from selfrepair.app.choosing.head_click import clickable
from selfrepair.app.choosing.named import choose_name
from selfrepair.app.choosing.one_of import one_of
from selfrepair.app.reproduce import HUB_IDS
from selfrepair.app.showing.figure import below, show
from selfrepair.app.showing.headers import headers
from selfrepair.app.showing.lacking import say_without_checkpoints
from selfrepair.app.showing.wording import column, meaning, words
from selfrepair.queries.catalog import relations
from selfrepair.queries.quoting import literal

# What the widget offers is also what links hold: words, with the level that stands for them in the view.
LEVELS = {"all heads": "model", "each layer": "layer", "one head": "head"}
TRAINED = [
    column.name.removesuffix("_se")
    for column in relations()["repair_over_training"].columns
    if column.name.endswith("_se")
]
"""Measures of `repair_over_training` that have a standard error."""


def beside_the_paper(choice: Choice, label: str) -> None:
    """The run's heads, its agreement and the claims; what adds such a run where it is none."""
    run_id = choice.run["run_id"]
    population = "all" if choice.population == "all" else "top2"  # none was published without position 0
    published = ask(queries.published_runs(run_id, population))
    if published.is_empty():
        st.info(
            "This run is none of a model whose heads the paper's authors published, or not as they measured it: its final "
            "weights, resample ablation, no heads given. This command measures one that is and lays it beside the paper:",
            icon=":material/compare:",
        )
        st.code(
            shlex.join(["selfrepair", "reproduce", next(iter(HUB_IDS)), "--db", str(warehouse_path())]), language="bash"
        )
        st.caption(f"Published are {', '.join(HUB_IDS)}. `--dry-run` says before what it would take.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        quantity = choose_name("Quantity", queries.QUANTITIES, "quantity", words, first="self_repair", width=280)
        published_run = choose_name(
            "Run of the authors",
            published["published_run"].to_list(),
            "published",
            help=meaning("reproduction", "published_run"),
            width=200,
        )
    heads_sql = queries.heads(run_id, population, published_run, quantity)
    agreements_sql, claims_sql = queries.agreements(run_id, population, published_run), queries.claims(run_id)
    ask_ahead([heads_sql, agreements_sql, claims_sql])
    agreements = ask(agreements_sql)
    noted = "" if population == choice.population else " (with position 0)"
    st.caption(
        f"Against the paper's {published['published_model'][0]}: means over {POPULATIONS[population]}{noted}, resample "
        "ablation, whatever the sidebar says. The authors measured other text: order and magnitude should agree, not decimals."
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        st.subheader(f"{words(quantity)}, head by head", help=meaning("head_repair", queries.column_of(quantity)))
        heads = ask(heads_sql)
        if heads.is_empty():
            st.info(f"{words(quantity)} was not published for this run of the authors; choose another one.")
        else:
            unit = f" [{column('head_repair', queries.column_of(quantity)).unit}]"
            chart = measured_against_published(heads, words(quantity), unit, label)
            clickable(chart, f"published {quantity} {published_run}", label)
            st.caption("On the dashed line both are the same. Click a dot to choose its head.")
            below(heads, heads_sql, name="reproduction", chart=chart)
    with right:
        st.subheader("Agreement over heads", help=meaning("reproduction_agreement", "verdict"))
        shown = agreements.with_columns(quantity=agreements["quantity"].map_elements(words, pl.String))
        st.dataframe(
            shown, hide_index=True, height=420, column_config=headers("reproduction_agreement", agreements.columns)
        )
        st.caption("Beside each number the authors' own: two runs of theirs of pythia-160m.")
        below(agreements, agreements_sql, name="agreement")

    st.header("The paper's claims", divider="gray", help=meaning("reproduction_claims", "verdict"))
    claims = ask(claims_sql)
    show(claims_with_intervals(claims), claims, claims_sql, name="claims")
    st.caption(
        "A dot is this run's value, with its 95 % interval where there is one. Diamond: the published number. Triangle: the "
        "paper's words say that the value lies above."
    )
    st.dataframe(claims, hide_index=True, column_config=headers("reproduction_claims", claims.columns))

    feedback_sql = queries.feedback(run_id)
    feedback = ask(feedback_sql)
    if not feedback.is_empty():
        st.header("Self-repression", divider="gray", help=meaning("feedback_reproduction", "same_side"))
        st.dataframe(feedback, hide_index=True, column_config=headers("feedback_reproduction", feedback.columns))
        below(feedback, feedback_sql, name="feedback_reproduction")


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
label = choose_head(heads)
beside_the_paper(choice, label)
in_training(choice, label)
