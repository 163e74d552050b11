"""Figures for assistants: some of the app's charts, drawn from the same views."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from selfrepair.app.charts.heads.heatmap import head_map
from selfrepair.app.charts.heads.parts import part_bars
from selfrepair.app.charts.heads.scatter import head_scatter
from selfrepair.app.charts.models.figure_1 import by_depth
from selfrepair.app.charts.models.repair_parts import stacked_parts
from selfrepair.app.components.about import run_facts
from selfrepair.app.components.figure import Picture, png, svg
from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.heads import PARTS, parts, where_head
from selfrepair.app.data.measures import measures
from selfrepair.app.wording.columns import title
from selfrepair.queries.catalog.heads import place_of
from selfrepair.queries.catalog.next_step import did_you_mean
from selfrepair.queries.catalog.which_run import Run
from selfrepair.warehouse.errors import SelfRepairError

Ask = Callable[[str], pl.DataFrame]
Kind = Literal["png", "svg"]

MEASURE = "mean_self_repair"


@dataclass(frozen=True)
class Asked:
    """What a figure is of: a run, an ablation and rows, one head or none, and the measure of a heat map."""

    choice: Choice
    head: str
    measure: str


def picture(name: str, asked: Asked, kind: Kind, ask: Ask) -> str | bytes:
    """The figure `name` as a file, with what it is about as its title. Raises SelfRepairError where it cannot be drawn."""
    if name not in FIGURES:
        raise SelfRepairError(
            f"there is no figure '{name}'{did_you_mean(name, FIGURES)} There are: {', '.join(FIGURES)}."
        )
    choice = asked.choice
    if choice.ablation not in choice.run["ablations"]:
        raise SelfRepairError(f"this run has no {choice.ablation} ablation, but {', '.join(choice.run['ablations'])}.")
    if choice.population not in POPULATIONS:
        raise SelfRepairError(f"population is one of {', '.join(POPULATIONS)}, not '{choice.population}'.")
    chart = FIGURES[name](asked, ask)
    told = run_facts(choice) | {"ablation": choice.ablation, "population": choice.population}
    if name == "self_repair_of_head":
        told["head"] = asked.head
    return svg(chart, told) if kind == "svg" else png(chart, told)


def chosen(run: Run, ablation: str, population: str) -> Choice:
    """The choice that these name; without an ablation or rows, the run's first and the top 2 %."""
    return Choice(run, ablation or run["ablations"][0], population or "top2")


def _by_component(asked: Asked, ask: Ask) -> Picture:
    """Self-repair by component and layer, stacked."""
    columns = {name: f"mean_{column}" for name, column in asked.choice.only(PARTS).items() if name != "total"}
    frame = _some(
        ask(
            f"SELECT layer, {MEASURE}, {', '.join(columns.values())}, n_heads, n_rows FROM layer_repair "
            f"WHERE {asked.choice.where} ORDER BY layer"
        )
    )
    return stacked_parts(
        frame,
        "layer_repair",
        columns,
        MEASURE,
        x="layer",
        x_title=title("layer_repair", "layer"),
        order="layer",
        more=["n_heads", "n_rows"],
    )


def _by_depth(asked: Asked, ask: Ask) -> Picture:
    """The paper's Figure 1: self-repair of heads, and the means of layers, by depth."""
    run = "model || ' (run ' || run_id || ')' AS run"
    where = asked.choice.where
    heads = ask(f"SELECT {run}, label, depth, {MEASURE} FROM head_repair WHERE {where}")
    layers = ask(f"SELECT {run}, depth, {MEASURE} FROM layer_repair WHERE {where}")
    return by_depth(_some(heads), layers, MEASURE)


def _map_of_heads(asked: Asked, ask: Ask) -> Picture:
    """A heat map of heads by any measure."""
    known = measures()
    if asked.measure not in known:
        hint = did_you_mean(asked.measure, known)
        raise SelfRepairError(
            f"heads have no measure '{asked.measure}'{hint} Such as {MEASURE}: columns of head_repair."
        )
    measure = known[asked.measure]
    where = measure.where(asked.choice, "self_repair")
    cells = _some(ask(f"SELECT layer, head, label, {measure.name} FROM {measure.view} WHERE {where}"))
    return head_map(cells, measure.name, words=measure.title, centre=measure.centre)


def _effect_against_change(asked: Asked, ask: Ask) -> Picture:
    """Every head's direct effect against its change in logit."""
    return head_scatter(
        _some(
            ask(
                "SELECT label, layer, mean_direct_effect, mean_logit_change, mean_self_repair FROM head_repair "
                f"WHERE {asked.choice.where}"
            )
        )
    )


def _of_head(asked: Asked, ask: Ask) -> Picture:
    """Self-repair of one head by component, with 95 % intervals."""
    place = place_of(asked.head)
    if place is None:
        raise SelfRepairError(f"this figure is of one head: give its name, such as head=\"L9H6\", not '{asked.head}'.")
    sql = parts(where_head(asked.choice, *place), asked.choice.population, asked.choice.only(PARTS), of_effect=False)
    return part_bars(_some(ask(sql)), "Self-repair [logits]", ".3~f")


FIGURES: Mapping[str, Callable[[Asked, Ask], Picture]] = {
    "self_repair_by_component": _by_component,
    "self_repair_by_depth": _by_depth,
    "map_of_heads": _map_of_heads,
    "effect_against_change": _effect_against_change,
    "self_repair_of_head": _of_head,
}


def _some(frame: pl.DataFrame) -> pl.DataFrame:
    if frame.is_empty():
        raise SelfRepairError("there are no rows to draw: not measured, or not summarised yet (selfrepair refresh).")
    return frame
