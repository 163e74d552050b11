"""What a figure or table is about (model, run, dataset, n, ablation, rows used, head, error bars): its files carry it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import streamlit as st

from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.queries.catalog.shared import INTERVALS
from selfrepair.queries.catalog.which_run import dataset_of, label_of

CHOSEN = "as chosen"
ENDINGS = tuple(INTERVALS)

_KEY = "what the page is about"
_NAMES = {"population": "rows used"}
_IN_FILE_NAMES = ("run", "ablation", "population", "head", "other run", "other ablation")
"""Facts in the names of files, of which the model's may be long."""


@dataclass(frozen=True)
class About:
    """What one figure or table shows, where that differs from what the page's sidebar says.

    `head`: the one head that it is about. `ablation` and `population`: which it has whatever the sidebar says; "" where it has
    none. `bars`: what its error bars and intervals mean. `n`: its numbers of rows, where its column n_rows and the page do
    not say them. `runs`: the runs that it shows, in words, where it shows several.
    """

    head: str = ""
    ablation: str = CHOSEN
    population: str = CHOSEN
    bars: str = "none"
    n: str = ""
    runs: str = ""


@dataclass(frozen=True)
class _Page:
    """What the sidebar and the page's own controls say; `n_rows`: rows of each head by population, in words."""

    choice: Choice
    other: Choice | None = None
    n_rows: Mapping[str, str] = field(default_factory=dict)


def clear_page() -> None:
    """Begin another page, which shows nothing yet."""
    st.session_state[_KEY] = None


def describe_page(choice: Choice, n_rows: Mapping[str, str], other: Choice | None = None) -> None:
    """Say what the figures of this page are about, and rows of each head by population, in words."""
    st.session_state[_KEY] = _Page(choice, other, n_rows)


def describe_other(other: Choice) -> None:
    """Say what the figures of this page compare that with."""
    page = st.session_state[_KEY]
    st.session_state[_KEY] = _Page(page.choice, other, page.n_rows)


def facts(about: About, frame: pl.DataFrame) -> dict[str, str]:
    """What a figure or table of `frame` is about, as texts by name; empty where the page shows no run."""
    page: _Page | None = st.session_state.get(_KEY)
    if page is None:
        return {}
    choice = page.choice
    population = choice.population if about.population == CHOSEN else about.population
    found = {"runs": about.runs} if about.runs else run_facts(choice, "")
    found["ablation"] = choice.ablation if about.ablation == CHOSEN else about.ablation
    found["population"] = population
    if page.other is not None:
        found |= run_facts(page.other, "other ") | {"other ablation": page.other.ablation}
    found["head"] = about.head
    found["n"] = about.n or _n_rows(frame) or ("" if about.runs else page.n_rows.get(population, ""))
    found["error bars"] = about.bars
    if about.bars == "none" and any(name.endswith(ENDINGS) for name in frame.columns):
        found["error bars"] = (
            "none; columns that end in _se are standard errors, in _low and _high ends of 95 % intervals"
        )
    return {name: text for name, text in found.items() if text}


def file_stem(name: str, told: Mapping[str, str]) -> str:
    """The stem of the files of the figure or table `name`: 'head_parts_run-1_resample_top2_L9H6'."""
    words = [f"run {told[each]}" if each.endswith("run") else told[each] for each in _IN_FILE_NAMES if each in told]
    return "_".join([name, *(re.sub(r"[^\w.]+", "-", word).strip("-") for word in words)])


def title_lines(told: Mapping[str, str]) -> list[str]:
    """The facts in a few lines, the title of a picture first."""
    if not told:
        return []
    lines = [_run_line(told, ""), _run_line(told, "other ")] if "other run" in told else [_run_line(told, "")]
    facts_of = in_words(told)
    lines += [
        "; ".join(f"{name}: {facts_of[name]}" for name in names if name in facts_of)
        for names in (("rows used", "head", "n"), ("error bars",))
    ]
    return [line for line in lines if line]


def in_words(told: Mapping[str, str]) -> dict[str, str]:
    """The facts as readers of a file want them, each in one line."""
    spelled = {**told, "population": POPULATIONS.get(told.get("population", ""), told.get("population", ""))}
    return {_NAMES.get(name, name): " ".join(spelled[name].split()) for name in told}


def csv_comment(told: Mapping[str, str]) -> str:
    """The facts as lines that begin with #, which readers of CSV skip as comments."""
    return "".join(f"# {name}: {text}\n" for name, text in in_words(told).items())


def _run_line(told: Mapping[str, str], which: str) -> str:
    ablation = f", {told[f'{which}ablation']} ablation" if f"{which}ablation" in told else ""
    if "runs" in told:
        return f"{told['runs']}{ablation}"
    model, run, dataset, prompts = (told[f"{which}{name}"] for name in ("model", "run", "dataset", "prompts"))
    return f"{model}, run {run}, {prompts} prompts of {dataset}{ablation}"


def run_facts(side: Choice, which: str = "") -> dict[str, str]:
    """What a chosen run is, as facts; `which` begins their names, as in "other run"."""
    run = side.run
    told = {"model": run["model"], "run": label_of(run), "dataset": dataset_of(run), "prompts": f"{run['n_prompts']:,}"}
    return {f"{which}{name}": str(value) for name, value in told.items()}


def _n_rows(frame: pl.DataFrame) -> str:
    """The numbers of rows of a frame's numbers, where it has them."""
    if "n_rows" not in frame.columns or frame["n_rows"].drop_nulls().is_empty():
        return ""
    return span_of_rows(frame["n_rows"].min(), frame["n_rows"].max())


def span_of_rows(fewest: Any, most: Any) -> str:
    """'24 rows', or '3 to 24 rows'."""
    several = "" if fewest == most else f"{fewest:,} to "
    return f"{several}{most:,} row{'' if most == 1 else 's'}"
