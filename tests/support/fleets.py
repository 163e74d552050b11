"""What tests of many workers share: a run of a few units, and that what several store is what one does."""

import contextlib
import time
from pathlib import Path

import duckdb
import psutil
import pytest

from support.contents import contents, differences
from support.warm import Process

MAIN = "from selfrepair.app.cli.main import main; main()"
FORKING = (
    f"import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); "
    "from support import forked_workers; forked_workers.install(Path(sys.argv[-1] + '.pids')); "
)
"""Goes before a program whose last argument is the warehouse: its workers are forked and have everything imported."""

RUN = ["--model", "demo", "--prompts", "24", "--seq-len", "48", "--packing", "document", "--ablation", "mean,zero"]
_OF_THE_CUT = {
    *("main.units", "main.runs", "main.edge_sums", "main.neuron_curves", "main.neuron_sums"),
    "selfrepair_marts.refreshed",
}
"""Tables whose rows are of single units, or count them."""

_OF_SUMS = {
    "selfrepair_marts.neuron_curve_totals",
    "selfrepair_marts.neuron_totals",
    "selfrepair_marts.repair_edges",
}
"""Sums of float32 numbers that nearly cancel, added in another order."""


def finish(process: Process) -> tuple[str, str]:
    """Wait for a process that ends well; what it wrote."""
    out, err = process.communicate(timeout=1500)  # many workers on a busy machine
    assert process.returncode == 0, err
    return out, err


def forked(db: Path) -> list[psutil.Process]:
    """The forked workers that are left of programs over this file."""
    found = []
    for path in sorted(Path(f"{db}.pids").glob("*")):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(int(path.name))
            found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
    return found


def until_units(db: Path, process: Process, wanted: int) -> int:
    """Wait until so many units are on disk; how many are."""
    found = 0
    while process.poll() is None and found < wanted:
        time.sleep(0.005)
        found = len(list(Path(f"{db}.parts").glob("*/unit-*/manifest.json")))
    return found


def assert_ended(workers: list[psutil.Process]) -> None:
    """None of them is left, soon."""
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert [worker.cmdline() for worker in alive] == []


def assert_same_run(db: Path, alone: Path) -> None:
    """The rows and summaries of a run that was shared are those of the run that one process measured."""
    found, expected = contents(db), contents(alone)
    assert set(differences(found, expected)) <= _OF_THE_CUT | _OF_SUMS
    for table in _OF_SUMS & found.keys():
        for row, other in zip(found[table], expected[table], strict=True):
            assert _not_floats(row) == _not_floats(other)
            assert _floats(row) == pytest.approx(_floats(other), rel=1e-6, abs=1e-5)


def measured_by(db: Path) -> tuple[int, int]:
    """Units of the only run, and workers that measured them."""
    with duckdb.connect(str(db), read_only=True) as con:
        found = con.execute("SELECT count(*), count(DISTINCT worker) FROM units WHERE seconds > 0").fetchall()
    return found[0][0], found[0][1]


def _floats(row: tuple) -> list[float]:
    return [value for value in row if isinstance(value, float)]


def _not_floats(row: tuple) -> list:
    return [value for value in row if not isinstance(value, float)]
