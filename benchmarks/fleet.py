"""How long a run takes on 8, 64 and 1,000 workers, and how far one loader carries: `python -m benchmarks.fleet`.

Replays the figures of `fleet.json` or, with --db, the units of a run that was measured, whose ledger or part files say who
took how long for each. The same figures and seed give the same tables; --write puts them into docs/cluster.md.
"""

import json
import math
import random
import re
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks.fleet_simulation import (
    Hazard,
    Loader,
    Unit,
    finished,
    load,
    load_into_files,
    load_into_lake,
    measure,
    shares,
)
from selfrepair.queries.catalog.describe import markdown_table
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import MANIFEST, Manifest
from selfrepair.warehouse.parts.records import is_run_key

FIGURES = Path(__file__).with_name("fleet.json")
PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
HEADING = "## How far one loader carries"
WORKERS = (8, 64, 1000)

ROWS_IN_UNIT, UNITS_PER_WORKER = 600_000, 4
"""As `ingest.runs.plan` cuts a run, which is not imported: it brings torch."""


@dataclass(frozen=True)
class Run:
    """A run and what measures it: rows a second of a typical worker, without writing part files, and seconds to start it.

    A spread is of the time of units, or of workers, over the typical one: the standard deviation of its logarithm, or measured
    values.
    """

    name: str
    device: str
    n_prompts: int
    rows_per_prompt: int
    rows_per_s: float
    write_rows_per_s: float
    start_s: float
    unit_spread: float | Sequence[float]
    speed_spread: float | Sequence[float]

    @property
    def rows(self) -> int:
        """Rows of measurements."""
        return self.n_prompts * self.rows_per_prompt

    def units(self, n_workers: int, rng: random.Random, times_larger: int = 1) -> list[Unit]:
        """The run cut into units for so many workers."""
        most = max(1, ROWS_IN_UNIT // self.rows_per_prompt)
        size = max(1, min(most, self.n_prompts // (UNITS_PER_WORKER * n_workers))) * times_larger
        counts = [min(size, self.n_prompts - first) for first in range(0, self.n_prompts, size)]
        return [
            Unit(rows, rows / self.rows_per_s * _factor(self.unit_spread, rng) + rows / self.write_rows_per_s)
            for rows in (count * self.rows_per_prompt for count in counts)
        ]

    def speeds(self, n_workers: int, rng: random.Random) -> list[float]:
        """How fast each worker is, where the typical one is 1."""
        return [1 / _factor(self.speed_spread, rng) for _ in range(n_workers)]


def _factor(spread: float | Sequence[float], rng: random.Random) -> float:
    return math.exp(rng.gauss(0, spread)) if isinstance(spread, int | float) else rng.choice(spread)


@dataclass(frozen=True)
class Outcome:
    """What a simulation says of a run on `n_workers` [s since the start]. `all_in` is without and `done` with summaries."""

    run: Run
    n_workers: int
    n_units: int
    shares: dict[str, float]
    measured: float
    all_in: float
    done: float
    loading: float
    summaries_each: float
    files_merged: float
    lake: float

    @property
    def loader_busy(self) -> float:
        """The loader's share of busy time, until all is loaded."""
        return self.loading / self.all_in

    @property
    def limit(self) -> str:
        """What more workers would wait for."""
        if self.loading > self.measured:
            return "loader"
        if self.n_workers > self.n_units:
            return "prompts"
        return "start" if self.shares["starting"] > 0.5 else "workers"


def simulate(
    run: Run, n_workers: int, loader: Loader, hazards: Sequence[Hazard], seed: int = 0, *, writers: int, larger: int = 1
) -> Outcome:
    """The run as it is built, and the same with `writers` loaders, and with units `larger` times as large."""
    rng = random.Random(seed)
    units = run.units(n_workers, rng, larger)
    spans = measure(units, run.speeds(n_workers, rng), start_s=run.start_s, hazards=hazards, rng=rng)
    arrivals = finished(spans, units)
    calls = load(arrivals, loader)
    summaries = loader.summarise(run.rows)
    return Outcome(
        run,
        n_workers,
        len(units),
        shares(spans, n_workers),
        measured=arrivals[-1][0],
        all_in=calls[-1].ended,
        done=calls[-1].ended + summaries,
        loading=sum(call.ended - call.began for call in calls),
        summaries_each=load(arrivals, loader, summaries_each=True)[-1].ended,
        files_merged=load_into_files(arrivals, loader, writers) + summaries,
        lake=load_into_lake(arrivals, loader, writers) + summaries,
    )


class MeasuredUnit(NamedTuple):
    """What a ledger or a manifest says about a unit."""

    worker: str
    n_prompts: int
    rows: int
    seconds: float
    measured_at: datetime


def measured_units(path: Path) -> list[MeasuredUnit]:
    """The units of the run in a warehouse or in a folder of part files that has most of which it is known who measured them."""
    runs: dict[Any, list[MeasuredUnit]] = defaultdict(list)
    if path.is_dir():
        for folder in (PartsFolder(path, one.name) for one in path.iterdir() if is_run_key(one.name)):
            for unit in folder.finished_units():
                manifest = Manifest.from_json((folder.unit_path(unit) / MANIFEST).read_text(encoding="utf-8"))
                if manifest.by:
                    rows = manifest.files["measurements.parquet"].rows
                    who, seconds = manifest.by.worker, manifest.by.seconds
                    runs[folder.run_key].append(
                        MeasuredUnit(who, manifest.n_prompts, rows, seconds, manifest.measured_at)
                    )
    else:
        sql = "SELECT run_id, worker, n_prompts, n_measurements, seconds, measured_at FROM units WHERE seconds > 0"
        with open_reader(path) as con:
            for run_id, *values in con.execute(sql).fetchall():
                runs[run_id].append(MeasuredUnit(*values))
    if not runs:
        raise click.ClickException(f"no unit in {path} says who measured it: units of this version of selfrepair do")
    largest = max(runs.values(), key=len)
    return sorted(largest, key=lambda unit: unit.measured_at)


def run_of(units: Sequence[MeasuredUnit], name: str, start_s: float) -> Run:
    """A run like the one that has these units, which workers like its own measure."""
    by_worker: dict[str, list[MeasuredUnit]] = defaultdict(list)
    for unit in units:
        by_worker[unit.worker].append(unit)
    per_row = statistics.median(unit.seconds / unit.rows for unit in units)
    of_worker = {
        worker: statistics.median(unit.seconds / unit.rows for unit in its) for worker, its in by_worker.items()
    }
    # Between the ends of two units of a worker, what is not measuring is writing.
    writing = [
        max(0.0, (after.measured_at - before.measured_at).total_seconds() - after.seconds) / after.rows
        for its in by_worker.values()
        for before, after in pairwise(its)
    ]
    write_per_row = statistics.median(writing) if writing else 0.0
    n_prompts = sum(unit.n_prompts for unit in units)
    return Run(
        name,
        "as measured",
        n_prompts,
        round(sum(unit.rows for unit in units) / n_prompts),
        1 / per_row,
        1 / write_per_row if write_per_row else math.inf,
        start_s,
        [unit.seconds / unit.rows / of_worker[unit.worker] for unit in units],
        [seconds / per_row for seconds in of_worker.values()],
    )


@click.command()
@click.option(
    "--db", type=click.Path(exists=True, path_type=Path), help="A warehouse or a folder of part files: replay its run."
)
@click.option("--start", "start_s", default=20.0, show_default=True, help="Seconds to start a worker, with --db.")
@click.option("--workers", default=",".join(map(str, WORKERS)), show_default=True, help="How many, comma-separated.")
@click.option("--seed", default=0, show_default=True, help="Seed of all that is drawn.")
@click.option("--write", is_flag=True, help="Put the section with the tables of fleet.json into docs/cluster.md.")
def main(db: Path | None, start_s: float, workers: str, seed: int, write: bool) -> None:
    """Print how long a run takes on so many workers."""
    if write:
        PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    runs = [run_of(measured_units(db), db.name, start_s)] if db else [Run(**run) for run in figures["runs"]]
    click.echo("\n\n".join(_tables(figures, runs, [int(n) for n in workers.split(",")], seed)))


@cache
def section() -> str:
    """The section of docs/cluster.md, with the tables of fleet.json."""
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    loader = Loader(**figures["loader"])
    runs = [Run(**run) for run in figures["runs"]]
    as_built, what_helps = _tables(figures, runs, WORKERS, seed=0)
    carries = [
        (
            run.name,
            f"{run.rows / 1e6:,.0f} million",
            run.device,
            f"{run.rows_per_s:,.0f}",
            _time(run.rows / run.rows_per_s),
            f"{_loader_rate(run, loader) / run.rows_per_s:,.0f}",
        )
        for run in runs
    ]
    heading = ("run", "rows", "worker", "rows a second", "time on one worker", "workers that one loader carries")
    return "\n\n".join(
        (
            HEADING,
            _wrapped(
                "Workers write units, and one loader takes them into the file; with enough workers, it falls behind. "
                "The times below are not measured: `python -m benchmarks.fleet` simulates them from the figures in "
                "`benchmarks/fleet.json`, or with `--db WAREHOUSE` (or a folder of part files) from a run of your "
                "own, whose units say who measured them in how many seconds. [Speed](speed.md#many-workers) says "
                "which figures are measured and which are estimates."
            ),
            markdown_table(heading, carries),
            _wrapped(
                "Units are handed out as workers ask, as `--devices` does; with `--shard` the slowest shard decides. A unit is "
                "one prompt at least, so that more workers than prompts are of no use. "
                f"{_ends(figures['failures'])}. `idle` is the share of workers' time without a unit, until the last one is "
                "measured; `loader busy` the share of the time until all is loaded; `limit` the loader where loading takes "
                "longer than measuring, or else what keeps more workers from being faster."
            ),
            as_built,
            _wrapped(
                f"What then helps, as the time until all is done, with {figures['parallel']} loaders where there are several:"
            ),
            what_helps,
            "\n".join(
                _wrapped(text)
                for text in (
                    "- **Summaries only at the end** is what `ingest` does; a `selfrepair load` now and then makes them anew "
                    "each time. They take about as long as loading, and use all cores, of which a load uses one or two.",
                    "- **Larger units** save the loader what each costs it, and leave workers waiting for the last; units hold "
                    "600,000 rows, or one prompt where that has more.",
                    "- **Several files**, one a loader, help where measuring is short: merging appends "
                    f"{loader.merge_rows_per_s / 1e6:.1f} million rows a second, a load {loader.rows_per_s / 1e6:.2f} "
                    "million and its units. Runs of several models, each in a file of its own, need no merging.",
                    "- **A lake** with parallel writers gains most, since only commits wait for each other. It is not built; "
                    "the figure takes its writers to be as fast as the loader.",
                )
            ),
            _wrapped(_preempted(runs[0], figures)),
        )
    )


def with_section(page: str) -> str:
    """The page with the section as it is now, in its old place or at the end."""
    text = section() + "\n"
    pattern = re.compile(rf"^{re.escape(HEADING)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    if pattern.search(page):
        return pattern.sub(lambda found: text + ("\n" if found.end() < len(page) else ""), page)
    return f"{page.rstrip()}\n\n{text}"


def _tables(figures: dict[str, Any], runs: Sequence[Run], workers: Sequence[int], seed: int) -> tuple[str, str]:
    """Each run as it is built on so many workers, and what would help."""
    loader = Loader(**figures["loader"])
    hazards = [Hazard(**figures["failures"])]
    writers = int(figures["parallel"])
    as_built, what_helps = [], []
    for run in runs:
        for n in workers:
            one = simulate(run, n, loader, hazards, seed, writers=writers)
            larger = simulate(run, n, loader, hazards, seed, writers=writers, larger=4)
            as_built.append(
                (
                    run.name,
                    f"{n:,}",
                    f"{one.n_units:,}",
                    _time(one.measured),
                    f"{one.shares['idle']:.0%}",
                    f"{one.shares['starting'] + one.shares['lost'] + one.shares['away']:.0%}",
                    f"{one.loader_busy:.0%}",
                    _time(one.all_in),
                    _time(one.done),
                    one.limit,
                )
            )
            times = (one.done, one.summaries_each, larger.done, one.files_merged, one.lake)
            what_helps.append((run.name, f"{n:,}", *map(_time, times)))
    return (
        markdown_table(
            (
                "run", "workers", "units", "measured after", "idle", "starting, lost", "loader busy", "loaded after",
                "summaries after", "limit",
            ),
            as_built,
        ),
        markdown_table(
            ("run", "workers", "as built", "summaries with each load", "units 4 times as large", "files merged", "lake"),
            what_helps,
        ),
    )  # fmt: skip


def _preempted(run: Run, figures: dict[str, Any]) -> str:
    """What preemption costs, in words."""
    loader, spot, n = Loader(**figures["loader"]), [Hazard(**figures["spot"])], 64
    usual, larger = (simulate(run, n, loader, spot, writers=1, larger=larger).shares["lost"] for larger in (1, 4))
    return (
        f"Preemption costs little. {_ends(figures['spot'])}: then {n} workers spend {usual:.1%} of their time on units of the "
        f"first run that are not finished, and {larger:.1%} with units 4 times as large."
    )


def _ends(hazard: dict[str, float]) -> str:
    return f"Each worker ends once in {1 / hazard['per_hour']:.0f} hours and is back after {_time(hazard['back_s'])}"


def _wrapped(text: str) -> str:
    return textwrap.fill(
        text,
        120,
        subsequent_indent="  " if text.startswith("- ") else "",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _loader_rate(run: Run, loader: Loader) -> float:
    """Rows a second that it takes in units of this run."""
    rows = run.rows_per_prompt * max(1, ROWS_IN_UNIT // run.rows_per_prompt)
    return rows / (loader.seconds(1, rows) - loader.call_s)


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{round(seconds / 60, 0 if seconds >= 600 else 1):g} min"
    return f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    main()
