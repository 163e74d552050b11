"""How long readers wait while loads run back to back: `python -m benchmarks.readers FOLDER`.

One process removes a made-up run (`synthetic`) and loads it again, without a pause; others ask for `head_repair` every so
often, from Python with the file closed after each answer, as the app does with the file left open, and by the command line.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from queue import Empty

import click

from benchmarks.synthetic import shape_of, write_run
from selfrepair import Warehouse
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.load.removal import remove_run, stored_run

VIEW, MODEL = "head_repair", "made-up-kept"
FILTERS = {"model": MODEL, "ablation": "resample", "population": "top2"}


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--rows", default=500_000, show_default=True, help="Rows of each load.")
@click.option("--seconds", default=60.0, show_default=True, help="How long to load.")
@click.option("--readers", "n_readers", default=4, show_default=True, help="Processes that ask from Python.")
@click.option("--pause", "pause_s", default=0.5, show_default=True, help="Seconds between two questions of a reader.")
@click.option("--cli/--no-cli", default=True, show_default=True, help="One more reader runs selfrepair query.")
def main(folder: Path, rows: int, seconds: float, n_readers: int, pause_s: float, cli: bool) -> None:
    """Load ROWS rows into a warehouse in FOLDER again and again, and time its readers."""
    folder.mkdir(parents=True, exist_ok=True)
    db = folder / "selfrepair.duckdb"
    for seed, key in enumerate(("kept", "loaded")):
        if not (folder / "parts" / key).exists():
            write_run(folder / "parts" / key, key, f"made-up-{key}", shape_of(rows), seed)
    load(db, folder / "parts" / "kept", keep_parts=True)
    context = multiprocessing.get_context("spawn")
    times: multiprocessing.Queue[tuple[str, float, str]] = context.Queue()
    until = time.time() + seconds + 5.0
    kinds = [("from Python", 0.0), ("kept open", 5.0)]
    readers = [
        context.Process(target=_ask, args=(db, *kinds[number % 2], pause_s, until, times))
        for number in range(n_readers)
    ]
    readers += [context.Process(target=_ask_in_shell, args=(db, pause_s, until, times))] if cli else []
    for process in readers:
        process.start()
    time.sleep(5.0)  # until all have begun
    loads = _load_until(db, folder / "parts" / "loaded", until)
    for process in readers:
        process.join()
    _print_load()
    _print("loads and removals", loads)
    found: dict[str, list[float]] = {}
    errors: list[str] = []
    while True:
        try:
            kind, took_s, error = times.get(timeout=0.5)
        except Empty:
            break
        found.setdefault(kind, []).append(took_s)
        errors += [error] if error else []
    for kind, answers in sorted(found.items()):
        _print(f"answers {kind}", answers)
    click.echo(f"errors: {len(errors)} {errors[:1] if errors else ''}")


def _load_until(db: Path, parts: Path, until: float) -> list[float]:
    """How long each load and each removal took [s]."""
    took = []
    run_id = 0
    while time.time() < until:
        began = time.perf_counter()
        load(db, parts, keep_parts=True)
        took.append(time.perf_counter() - began)
        began = time.perf_counter()
        run_id = run_id or 2
        while True:
            try:
                run = stored_run(db, run_id, wait_s=60)
                break
            except SelfRepairError:
                run_id += 1
        remove_run(db, run, parts.parent / "none")
        took.append(time.perf_counter() - began)
    return took


def _ask(
    db: Path,
    kind: str,
    keep_open_s: float,
    pause_s: float,
    until: float,
    times: "multiprocessing.Queue[tuple[str, float, str]]",
) -> None:
    warehouse = Warehouse(db, keep_open_s=keep_open_s)
    warehouse.view(VIEW, **FILTERS)
    while time.time() < until:
        began, error = time.perf_counter(), ""
        try:
            assert warehouse.view(VIEW, **FILTERS).height == 144
        except SelfRepairError as caught:
            error = str(caught)
        times.put((kind, time.perf_counter() - began, error))
        time.sleep(pause_s)


def _ask_in_shell(
    db: Path, pause_s: float, until: float, times: "multiprocessing.Queue[tuple[str, float, str]]"
) -> None:
    params = [word for name, value in FILTERS.items() for word in ("--param", f"{name}={value}")]
    command = [sys.executable, "-m", "selfrepair", "query", VIEW, "--db", str(db), *params, "--csv"]
    while time.time() < until:
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        times.put(("in a shell", time.perf_counter() - began, done.stderr if done.returncode else ""))
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
