"""How long readers wait while loads run back to back: `python -m benchmarks.readers FOLDER`.

One process, or several, removes a made-up run (`synthetic`) and loads it again, without a pause; others ask for `head_repair`
every so often, from Python with the file closed after each answer, as the app does with the file left open, and by the
command line. Sixteen readers and four loaders: `--readers 16 --loaders 4`.
"""

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from queue import Empty
from typing import TypeAlias

import click

from benchmarks.synthetic import shape_of, write_run
from selfrepair import Warehouse
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.load.removal import remove_run, stored_run

Times: TypeAlias = "multiprocessing.Queue[tuple[str, float, str]]"
"""What kind of reader it was, how long its answer took [s], and its error, empty without one."""

VIEW, MODEL = "head_repair", "made-up-kept"
FILTERS = {"model": MODEL, "ablation": "resample", "population": "top2"}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rows", default=500_000, show_default=True, help="Rows of each load.")
@click.option("--seconds", default=60.0, show_default=True, help="How long to load.")
@click.option("--readers", "n_readers", default=4, show_default=True, help="Processes that ask from Python.")
@click.option(
    "--loaders", "n_loaders", default=1, show_default=True, help="Processes that load, each a run of its own."
)
@click.option("--pause", "pause_s", default=0.5, show_default=True, help="Seconds between two questions of a reader.")
@click.option("--cli/--no-cli", default=True, show_default=True, help="One more reader runs selfrepair query.")
@click.option(
    "--db", "address", help="A lake to use, ducklake:..., in place of a file in FOLDER; its rows lie in FOLDER."
)
def main(
    address: str | None,
    folder: Path,
    rows: int,
    seconds: float,
    n_readers: int,
    n_loaders: int,
    pause_s: float,
    cli: bool,
) -> None:
    """Load ROWS rows into a warehouse in FOLDER again and again, and time its readers."""
    folder.mkdir(parents=True, exist_ok=True)
    db = warehouse_path(address, str(folder / "rows")) if address else folder / "selfrepair.duckdb"
    loaded = [f"loaded-{number}" for number in range(n_loaders)]
    for seed, key in enumerate(("kept", *loaded)):
        if not (folder / "parts" / key).exists():
            write_run(folder / "parts" / key, key, f"made-up-{key}", shape_of(rows), seed)
    load(db, folder / "parts" / "kept", keep_parts=True)
    context = multiprocessing.get_context("spawn")
    times: Times = context.Queue()
    done, ready = context.Event(), context.Barrier(n_readers + cli + n_loaders)
    kinds = [("from Python", 0.0), ("kept open", 5.0)]
    shared = pause_s, ready, done, times
    readers = [
        context.Process(daemon=True, target=_ask, args=(db, *kinds[number % 2], *shared)) for number in range(n_readers)
    ]
    readers += [context.Process(daemon=True, target=_ask_in_shell, args=(db, *shared))] if cli else []
    loaders = [
        context.Process(daemon=True, target=_load_for, args=(seconds, db, folder / "parts" / key, ready, times))
        for key in loaded[1:]
    ]
    for process in [*readers, *loaders]:
        process.start()
    _load_for(seconds, db, folder / "parts" / loaded[0], ready, times)
    done.set()
    _print_load()
    found: dict[str, list[float]] = {}
    errors: list[str] = []
    while True:
        is_over = not any(process.is_alive() for process in [*readers, *loaders])
        try:
            kind, took_s, error = times.get(timeout=0.5)
        except Empty:
            if is_over:
                break
            continue
        found.setdefault(kind, []).append(took_s)
        errors += [error] if error else []
    for kind, took in sorted(found.items()):
        _print(kind, took)
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    click.echo(f"processor time {sum(one.ru_utime + one.ru_stime for one in used):.0f} s")
    click.echo(f"errors: {len(errors)} {errors[:3] if errors else ''}")


def _load_for(seconds: float, db: Path, parts: Path, ready: Barrier, times: "Times") -> None:
    """Load a run and remove it again, and tell how long each took."""
    ready.wait()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for what, step in (("loads", _load), ("removals", _remove)):
            began, error = time.perf_counter(), ""
            try:
                step(db, parts)
            except SelfRepairError as caught:
                error = str(caught)
            times.put((what, time.perf_counter() - began, error))


def _load(db: Path, parts: Path) -> None:
    load(db, parts.parent, run_key=parts.name, keep_parts=True, wait_s=300)


def _remove(db: Path, parts: Path) -> None:
    query = "SELECT run_id FROM runs WHERE run_key = $key"
    for number in Warehouse(db, wait_s=300).sql(query, {"key": parts.name})["run_id"]:
        remove_run(db, stored_run(db, number, wait_s=300), parts.parent / "none", wait_s=300)


def _ask(db: Path, kind: str, keep_open_s: float, pause_s: float, ready: Barrier, done: Event, times: "Times") -> None:
    warehouse = Warehouse(db, keep_open_s=keep_open_s)
    warehouse.view(VIEW, **FILTERS)
    ready.wait()
    while not done.is_set():
        began, error = time.perf_counter(), ""
        try:
            assert warehouse.view(VIEW, **FILTERS).height == 144
        except SelfRepairError as caught:
            error = str(caught)
        times.put((f"answers {kind}", time.perf_counter() - began, error))
        time.sleep(pause_s)


def _ask_in_shell(db: Path, pause_s: float, ready: Barrier, done: Event, times: "Times") -> None:
    params = [word for name, value in FILTERS.items() for word in ("--param", f"{name}={value}")]
    command = [sys.executable, "-m", "selfrepair", "query", VIEW, "--db", str(db), *params, "--csv"]
    ready.wait()
    while not done.is_set():
        began = time.perf_counter()
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        times.put(("answers in a shell", time.perf_counter() - began, answer.stderr if answer.returncode else ""))
        time.sleep(pause_s)


def _print(what: str, seconds: list[float]) -> None:
    if not seconds:
        click.echo(f"{what:22} none")
        return
    ordered = sorted(seconds)
    click.echo(
        f"{what:22} {len(ordered):5}  median {statistics.median(ordered):5.2f} s  "
        f"95 % below {ordered[int(0.95 * (len(ordered) - 1))]:5.2f} s  slowest {ordered[-1]:5.2f} s"
    )


def _print_load() -> None:
    click.echo(
        f"processors {os.cpu_count()}, load of the machine {' '.join(f'{load:.1f}' for load in os.getloadavg())}"
    )


if __name__ == "__main__":
    main()
