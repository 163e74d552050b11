"""What a run found, on one screen: what is stored, how exact it is, self-repair by layer, and what to query next."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from selfrepair.app.cli import streams
from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.catalog.which_run import few_rows
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.cli.terminal import plain_lines
from selfrepair.warehouse.database.lake.catalog import stored_bytes
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.files import human_bytes
from selfrepair.warehouse.schema.names import ANSWER, ANSWER_MINUS_FOIL, NEXT_TOKEN

Row = dict[str, Any]

_REPLACED_BY = {"resample": "its output on another prompt", "mean": "its mean output over all prompts", "zero": "zero"}
"""What each ablation replaces a head's output by."""

_LOGITS = {
    NEXT_TOKEN: "the correct token's logit",
    ANSWER: "the answer's logit",
    ANSWER_MINUS_FOIL: "the answer's logit minus its foil's",
}
"""What the effects of a run are measured on, by its `logit_of`."""

_ROWS_USED = {"top2": "top 2 % by direct effect (direct logit attribution)", "all": "all"}


class _Column(NamedTuple):
    """A column of the table: its heading, the view's column, the factor of its values, their decimals."""

    heading: str
    name: str
    factor: float = 1
    decimals: int = 3


_OF_POST_NORMS = "mean_repair_post_norm"
"""The column that only models with post-norms have."""

_COLUMNS = (
    _Column("layer", "layer", decimals=0),
    _Column("direct\neffect", "mean_direct_effect"),
    _Column("drop in\ndirect\neffect", "mean_removed_effect"),
    _Column("change\nin logit", "mean_logit_change"),
    _Column("LayerNorm\nrepair", "mean_repair_layernorm"),
    _Column("attention\nrepair", "mean_repair_attention"),
    _Column("MLP\nrepair", "mean_repair_mlp"),
    _Column("post-norm\nrepair", _OF_POST_NORMS),
    _Column("self-\nrepair", "mean_self_repair"),
    _Column("self-repair\n/ direct\neffect [%]", "total_fraction_of_effect", 100, 1),
    _Column("LayerNorm,\nclipped\n[%]", "clipped_layernorm_fraction", 100, 1),
    _Column("total,\nclipped\n[%]", "clipped_total_fraction", 100, 1),
)


def print_report(run_id: int | None, *, db: Path, **_options: Any) -> None:
    """Print the report on what a command measured: `run_id` is its result, None where it stored no run.

    The run is stored whatever happens here, so a report that fails is a note and no error.
    """
    if run_id is None:
        return
    try:
        click.echo(f"\n{run_report(db, run_id)}")
    except SelfRepairError as error:
        click.echo(f"The run is stored; its summary cannot be shown: {error}", err=True)
    except OSError as error:
        if (text := streams.write_failure(error)) is None:
            raise
        streams.discard()
        click.echo(f"The run is stored; its summary cannot be shown: {text}", err=True)


def run_report(db: Path, run_id: int) -> str:
    """The report on run `run_id` of the warehouse `db`, as plain text. Raises SelfRepairError for an unreadable file."""
    with Session(db) as session:
        run = stored_run(session, run_id)
        ablation = "resample" if "resample" in run["ablations"] else run["ablations"][0]
        population = run["default_population"]
        layers = session.frame(f"""
            FROM layer_repair
            WHERE run_id = {run_id} AND ablation = {literal(ablation)} AND population = {literal(population)} ORDER BY layer
        """).to_dicts()
    facts = f"Run {run_id}: {run['model']}, {run['n_heads']} heads, {run['n_prompts']} prompts\n{facts_of(run, db)}"
    if not layers:
        return f"{facts}\n\nRun {run_id} is {run['status']} and has no summaries. See: selfrepair runs"
    fewest, most = _n_rows(layers)
    several = "" if fewest == most else f"{fewest:,} to "
    parts = [
        facts,
        f"Self-repair by component and layer\n{ablation} ablation: a head's output is replaced by {_REPLACED_BY[ablation]}\n"
        f"Means in logits; rows used: {_ROWS_USED[population]}, {several}{most:,} of each head",
        _table(layers),
        *filter(None, [few_rows(fewest)]),
        _explanation(layers, run["logit_of"] or NEXT_TOKEN),
        _next_steps(db, run_id, ablation, population),
    ]
    return "\n\n".join(parts)


def stored_run(session: Session, run_id: int) -> Row:
    """The row of `runs` with the names of its model and dataset, the model's shape, and how many rows are stored."""
    return session.frame(f"""
        SELECT
            runs.*, default_population(run_id) AS default_population,
            models.name AS model, n_layers, post_norms, models.n_heads AS heads_in_layer, len(selected_heads) AS n_heads,
            datasets.name AS dataset,
            (SELECT count(*) FROM measurements WHERE run_id = {run_id}) AS n_rows,
            (SELECT count(*) FROM measurements) AS n_rows_in_file
        FROM runs INNER JOIN models USING (model_id) INNER JOIN datasets USING (dataset_id)
        WHERE run_id = {run_id}
    """).row(0, named=True)


def facts_of(run: Row, db: Path) -> str:
    """What is stored of a run of `stored_run` and how exact it is, in three lines."""
    n_bytes, n_rows, n_rows_in_file = stored_bytes(db), run["n_rows"], run["n_rows_in_file"]
    size = (
        "in a bucket" if n_bytes is None else f"{human_bytes(n_bytes)}, {n_bytes / n_rows_in_file:,.1f} bytes per row"
    )
    parts = "LayerNorm + attention + MLP" + (" + post-norm" if run["post_norms"] else "")
    if n_rows_in_file > n_rows:
        size += f", including {n_rows_in_file - n_rows:,} rows of other runs"
    return "\n".join(
        [
            f"  stored       {n_rows:,} rows in {db} ({size})",
            f"  identity     self-repair = {parts} repair in every row; largest error {_error(run['identity_error_max'])}",
            f"  cross-check  {run['crosscheck_rows']:,} rows measured again by plain forwards with hooks; largest difference "
            f"{_error(run['crosscheck_error_max'])}",
        ]
    )


def _error(logits: float | None) -> str:
    return "unknown" if logits is None else f"{logits:.1e} logits"


def _n_rows(layers: Sequence[Row]) -> tuple[int, int]:
    """The fewest and the most rows that were used of a head."""
    of_head = [round(layer["n_rows"] / layer["n_heads"]) for layer in layers]
    return min(of_head), max(of_head)


def _table(layers: Sequence[Row]) -> str:
    columns = [column for column in _COLUMNS if column.name != _OF_POST_NORMS or layers[0][_OF_POST_NORMS] is not None]
    cells = [[_cell(row[column.name], column) for column in columns] for row in layers]
    return "\n".join(plain_lines([column.heading for column in columns], cells, [True] * len(columns), rule=False))


def _cell(value: float | None, column: _Column) -> str:
    return "" if value is None else f"{value * column.factor:z.{column.decimals}f}"


def _explanation(layers: Sequence[Row], logit_of: str) -> str:
    most = max(layers, key=lambda row: row["mean_self_repair"])
    drop, change, repair = (most[f"mean_{name}"] for name in ("removed_effect", "logit_change", "self_repair"))
    what = (
        "is self-repair by the rest of the model."
        if repair > 0
        else "is added damage: no layer shows self-repair here."
    )
    return (
        f"How to read it: ablating a head of layer {most['layer']} lowers its direct effect on {_LOGITS[logit_of]} by "
        f"{drop:z.3f}\nand changes {'that difference' if logit_of == ANSWER_MINUS_FOIL else 'that logit'} by {change:z.3f}. "
        f"The difference, {abs(repair):.3f}, {what}\n"
        "'self-repair / direct effect' divides the two means; below 0, the rest of the model adds to the damage.\n"
        "'clipped' is the paper's: each row's ratio is clipped to 0..100 % before the mean, so never below 0."
    )


def _next_steps(db: Path, run_id: int, ablation: str, population: str) -> str:
    at = f" --db {shlex.quote(str(db))}"
    params = {"run_id": run_id} | {
        name: value
        for name, value, default in (("ablation", ablation, "resample"), ("population", population, "top2"))
        if value != default
    }
    typed = "".join(f" --param {name}={value}" for name, value in params.items())
    return "\n".join(
        [
            "Next:",
            f"  selfrepair query most_repaired_heads{typed}{at}",
            "  selfrepair questions                   # more to query; selfrepair views: all tables and views",
            f"  selfrepair app{at}",
        ]
    )
