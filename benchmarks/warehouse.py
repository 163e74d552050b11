"""Load, summarise and ask a warehouse of 100 million rows: `python -m benchmarks.warehouse FOLDER`.

Makes up two runs (`synthetic`), loads the first and then the second, and times every summary view, every question and the
look-ups of single rows, each as a caller meets it: opening the file included, median of three. What is in FOLDER already is
used again, so that a second call only asks.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.synthetic import shape_of, write_run
from selfrepair import Warehouse
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.marts import refresh as marts
from selfrepair.queries.marts.install import install
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.connection import open_reader, open_writer
from selfrepair.warehouse.database.lake.catalog import stored_bytes
from selfrepair.warehouse.database.transactions import checkpoint
from selfrepair.warehouse.load.loader import load

ROW_VIEWS = ("self_repair", "prompt_repair", "top_effect", "neuron_top_rows")
"""Views with rows for single tokens or prompts: asked for one head, not whole."""

HEAD = {"layer": 9, "head": 6, "ablation": "resample"}
ANSWERS = {"layer": 9, "head": 6, "run_id": 1, "other_run_id": 2}
"""Values for the parameters of questions that have no default."""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rows", default=100_000_000, show_default=True, help="Rows of the first run.")
@click.option("--second", default=10_000_000, show_default=True, help="Rows of the second run.")
@click.option("--memory", default="8GB", show_default=True, help="DuckDB's memory limit while refreshing.")
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too."
)
@click.option(
    "--db", "address", help="A lake to use, ducklake:..., in place of a file in FOLDER; its rows lie in FOLDER."
)
def main(address: str | None, folder: Path, rows: int, second: int, memory: str, json_file: Path | None) -> None:
    """Time a warehouse of ROWS made-up rows in FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    db = warehouse_path(address, str(folder / "rows")) if address else folder / "selfrepair.duckdb"
    figures: dict[str, float] = {}
    for key, n_rows, seed in (("first", rows, 1), ("second", second, 2)):
        if key not in _runs(db):
            _add_run(db, folder / "parts", key, n_rows, seed, memory, figures)
    figures["file [bytes a row]"] = (stored_bytes(db) or 0) / _count(db)
    figures |= {f"view {name} [ms]": ms for name, ms in _views(db)}
    figures |= {f"question {name} [ms]": ms for name, ms in _questions(db)}
    figures |= {f"{name} [ms]": ms for name, ms in _time_lookups(db)}
    _print(figures)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def _runs(db: Path) -> list[str]:
    if not db.exists():
        return []
    with open_reader(db) as con:
        return [key for (key,) in con.execute("SELECT run_key FROM runs WHERE status = 'complete'").fetchall()]


def _count(db: Path) -> int:
    with open_reader(db) as con:
        return int(con.execute("SELECT count(*) FROM measurements").fetchall()[0][0])


def _add_run(db: Path, parts: Path, key: str, n_rows: int, seed: int, memory: str, figures: dict[str, float]) -> None:
    click.echo(f"making up {n_rows:,} rows ...", err=True)
    write_run(parts / key, key, f"made-up-{key}", shape_of(n_rows), seed)
    click.echo("loading ...", err=True)
    report = load(db, parts / key, after_load=False)
    figures[f"{key} run: rows [millions]"] = report.rows / 1e6
    figures[f"{key} run: rows loaded a second [millions]"] = report.rows / 1e6 / report.seconds
    click.echo("refreshing ...", err=True)
    with open_writer(db) as con:
        con.execute(f"SET memory_limit = '{memory}'")
        con.execute("SET threads = 2")
        install(con)
        began = time.perf_counter()
        marts.refresh(con)
        figures[f"{key} run: refresh of its marts, {memory} [s]"] = time.perf_counter() - began
        checkpoint(con)


def _views(db: Path) -> list[tuple[str, float]]:
    names = [
        name for name, relation in relations().items() if relation.kind == "view" and not relation.is_building_block
    ]
    return [(name, _ms(lambda name=name: Warehouse(db).view(name))) for name in names if name not in ROW_VIEWS]


def _questions(db: Path) -> list[tuple[str, float]]:
    found = []
    for name, question in questions().items():
        needed = {key: ANSWERS[key] for key, parameter in question.parameters.items() if parameter.required}
        found.append((name, _ms(lambda name=name, needed=needed: Warehouse(db).question(name, **needed))))
    return found


def _time_lookups(db: Path) -> list[tuple[str, float]]:
    warehouse = Warehouse(db)
    return [
        ("one head's top 100 rows with tokens", _ms(lambda: warehouse.rows("made-up-first", 9, 6, top=100))),
        ("one prompt's rows for one head", _ms(lambda: warehouse.view("self_repair", run_id=1, prompt_id=700, **HEAD))),
        ("one head's prompts", _ms(lambda: warehouse.view("prompt_repair", run_id=1, **HEAD))),
    ]


def _ms(ask: Callable[[], object]) -> float:
    ask()  # the first time reads the file into the machine's cache
    times = []
    for _ in range(3):
        began = time.perf_counter()
        ask()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def _print(figures: dict[str, float]) -> None:
    table = Table("figure", title="a warehouse of made-up runs", title_justify="left")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}" if value < 100 else f"{value:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
