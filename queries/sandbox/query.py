"""Queries by what they are of, a view, a question or a head: they become SQL once the file is open.

Names and runs have to be looked up in the file before there is SQL to run. Doing that where the SQL runs too takes one
opening of the file instead of two, and opening takes as long as most answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

from selfrepair.queries.catalog.filters import conditions_of, unknown_column
from selfrepair.queries.catalog.headline import Chosen, columns_of
from selfrepair.queries.catalog.heads import Place, among, place_of, split_labels
from selfrepair.queries.catalog.next_step import argument
from selfrepair.queries.catalog.questions import with_run
from selfrepair.queries.catalog.quoting import identifier
from selfrepair.queries.catalog.relations import views
from selfrepair.queries.catalog.which_run import RUNS, Run, which_run
from selfrepair.queries.sandbox.answer import Params
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema import ABLATIONS

if TYPE_CHECKING:
    from selfrepair.queries.sandbox.plain_types import Types
    from selfrepair.queries.sandbox.reader import Reader
    from selfrepair.queries.sandbox.session import Session

_ROW_COLUMNS = (
    *("run_id", "model", "ablation", "prompt_id", "pos", "layer", "head", "label", "token", "target", "foil"),
    *("direct_effect", "ablated_direct_effect", "removed_effect", "logit_change", "self_repair"),
    *("repair_layernorm", "repair_attention", "repair_mlp", "repair_post_norm", "ln_scale_ratio"),
)

_FEW_HEADS = 50


class Query(Protocol):
    """Something that becomes SQL where the file is open. It is sent to another process, and holds plain values."""

    def to_sql(self, reader: "Reader") -> tuple[str, Params | None]:
        """The query and its parameters. Raises SelfRepairError where a name in it is not there."""


@dataclass(frozen=True)
class SqlQuery:
    """A query as it was written."""

    query: str
    params: Params | None = None

    def to_sql(self, reader: "Reader") -> tuple[str, Params | None]:
        """The query itself; the file is not read."""
        return self.query, self.params


@dataclass(frozen=True)
class NamesQuery:
    """What can be queried by name: a row for each table and view, its `name`."""

    def to_sql(self, reader: "Reader") -> tuple[str, Params | None]:
        """Names are those of the file."""
        return "SELECT unnest($names) AS name", {"names": reader.names()}


@dataclass(frozen=True)
class ColumnsQuery:
    """The columns of a table or view in their order: a row for each, its `name`."""

    name: str

    def to_sql(self, reader: "Reader") -> tuple[str, Params | None]:
        """Raises where there is no such table or view."""
        return "SELECT unnest($names) AS name", {"names": reader.columns(self.name)}


@dataclass(frozen=True)
class ViewQuery:
    """Rows of a view or table in which each column of `filters` has the value, or one of a list; None is NULL.

    `columns` are those to select, in this order; all come as `catalog.headline` orders them. `filters` may give heads by
    their names, `head="L9H6"` or a list of these; one that is not there is refused, a single one unless `tells_of_head`: then
    whoever asks says of an empty answer what there is. With `is_ordered` the rows of a view whose rows are stored come in the
    order of what tells them apart; all others come as they are computed, which in one thread is always the same.
    """

    name: str
    filters: Mapping[str, Any]
    columns: Chosen = "all"
    tells_of_head: bool = False
    is_ordered: bool = False

    def to_sql(self, reader: "Reader | Session") -> tuple[str, Params | None]:
        """A model is found by the number of its run. Raises where it has several, or the view no such column."""
        columns = reader.columns(self.name)
        has_heads = {"layer", "head"} <= set(columns)
        filters, places = split_labels(self.filters) if has_heads else (dict(self.filters), [])
        selected = columns_of(self.name, columns, self.columns)
        for column in (*filters, *selected):
            if column not in columns:
                raise SelfRepairError(unknown_column(self.name, column, columns))
        if "run_id" in columns and filters.keys() & {"run_id", "model"}:
            filters |= _run_filter(reader.rows(RUNS), filters)
        conditions, params = conditions_of(filters)
        single = place_of(self.filters.get("head")) if has_heads and not self.tells_of_head else None
        if named := places or [place for place in [single] if place]:
            _check_heads(reader, self.name, filters.get("run_id") if "run_id" in columns else (), named)
        if places:
            conditions.append(among(places))
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        grain = _grain_of_mart(self.name, columns) if self.is_ordered else ()
        order = f" ORDER BY {', '.join(map(identifier, grain))}" if grain else ""
        return f"SELECT {', '.join(map(identifier, selected))} FROM {identifier(self.name)}{where}{order}", params

    def types(self, reader: "Reader") -> "Types":
        """The columns of the answer, which `to_sql` has found to be there, with their types."""
        types = dict(reader.types(self.name))
        return [(column, types[column]) for column in columns_of(self.name, list(types), self.columns)]


@dataclass(frozen=True)
class QuestionQuery:
    """A question's SQL with the `values` that are bound to its parameters."""

    sql: str
    values: Mapping[str, Any]

    def to_sql(self, reader: "Reader") -> tuple[str, Params | None]:
        """A run that is named becomes its number, or is refused (`questions.with_run`)."""
        return self.sql, with_run(self.values, reader.rows(RUNS))


@dataclass(frozen=True)
class HeadQuery:
    """Every row of one head under one ablation from `view`, `self_repair` or `top_effect`, in the given order."""

    view: str
    order: str
    model: str | int
    run: str | int | None
    layer: int
    head: int
    ablation: str

    def to_sql(self, reader: "Reader") -> tuple[str, Params | None]:
        """Raises where there is no such run, layer, head or ablation."""
        run = which_run(reader.rows(RUNS), self.model, self.run)
        _check_head(run, self.layer, self.head, self.ablation)
        where = "run_id = $run_id AND ablation = $ablation AND layer = $layer AND head = $head"
        values = {"run_id": run["run_id"], "ablation": self.ablation, "layer": self.layer, "head": self.head}
        return f"SELECT {', '.join(_ROW_COLUMNS)} FROM {self.view} WHERE {where} ORDER BY {self.order}", values


def _grain_of_mart(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that tell the rows of the mart `name` apart; none for a view that is none."""
    of_mart = (view.grain for view in views() if view.name == name.lower() and view.kept == "mart")
    grain = next(of_mart, ())
    return grain if set(grain) <= set(columns) else ()


def _check_head(run: Run, layer: int, head: int, ablation: str) -> None:
    if ablation not in run["ablations"]:
        known = (
            "there is no such ablation"
            if ablation not in ABLATIONS
            else f"run {run['run_id']} was not measured with it"
        )
        raise SelfRepairError(f"ablation '{ablation}': {known}; it has {', '.join(run['ablations'])}.")
    for noun, number, n in (("layer", layer, run["n_layers"]), ("head", head, run["n_heads"])):
        if not (isinstance(number, int) and 0 <= number < n):
            raise SelfRepairError(f"{run['model']} has {noun}s 0 to {n - 1}, and no {noun} {number}.")


def _check_heads(reader: "Reader | Session", name: str, run_id: Any, places: Sequence[Place]) -> None:
    """Raise SelfRepairError for a head that was ablated in none of the runs; that no row has, where rows are of no run, ()."""
    if run_id == ():
        query, where = f"SELECT DISTINCT head_label(layer, head) AS label FROM {identifier(name)}", name
    else:
        ids = [one for one in (run_id if isinstance(run_id, list) else [run_id]) if one is not None]
        of_runs = f" WHERE run_id IN ({', '.join(map(str, ids))})" if ids else ""
        query = f"SELECT DISTINCT unnest(selected_heads) AS label FROM runs{of_runs}"
        where = f"run {' or '.join(map(str, ids))}" if ids else "this warehouse"
    there = sorted(filter(None, (place_of(row["label"]) for row in reader.rows(query))))
    missing = [place for place in places if place not in there]
    if missing and there:
        labels = ["L{}H{}".format(*place) for place in there]
        many = f"{labels[0]} to {labels[-1]}, {len(labels)} heads"
        raise SelfRepairError(
            f"{where} has no head {', '.join('L{}H{}'.format(*place) for place in missing)}; it has "
            f"{', '.join(labels) if len(labels) <= _FEW_HEADS else many}."
        )


def _run_filter(runs: list[Run], filters: Mapping[str, Any]) -> dict[str, Any]:
    """The run_id that `filters` mean: the one they name if it is there, or the only one of each model they name."""
    run_id, model = filters.get("run_id"), filters.get("model")
    if isinstance(run_id, str | Integral):
        number = run_id if isinstance(run_id, str) else int(run_id)
        return {"run_id": which_run(runs, model if isinstance(model, str) else None, number)["run_id"]}
    if isinstance(run_id, list):
        return {"run_id": [each if each is None else which_run(runs, None, each)["run_id"] for each in run_id]}
    if model is None or "run_id" in filters:
        return {}
    models = model if isinstance(model, list) else [model]
    if numbers := [name for name in models if not isinstance(name, str)]:
        raise SelfRepairError(
            f"model={numbers[0]!r} is no model's name. A run is meant by its number: {argument('run', numbers[0])}"
        )
    return {"run_id": [which_run(runs, name, None)["run_id"] for name in models]}
