"""Real processes measure one run, are killed, interrupted and begun again: the rows are those of one process."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import psutil
import pytest

from support.contents import contents, differences
from support.warm import Process

pytestmark = pytest.mark.slow

MAIN = "from selfrepair.app.cli.main import main; main()"
RUN = ["--model", "demo", "--prompts", "24", "--seq-len", "48", "--packing", "document", "--ablation", "mean,zero"]
OF_THE_CUT = {
    *("main.units", "main.runs", "main.edge_sums", "main.neuron_curves", "main.neuron_sums"),
    "selfrepair_marts.refreshed",
}
"""Tables whose rows are of single units, or count them."""

OF_SUMS = {"selfrepair_marts.neuron_totals", "selfrepair_marts.repair_edges"}
"""Sums of float32 numbers that nearly cancel, added in another order."""


@pytest.fixture
def start(server) -> Callable[..., Process]:
    return lambda db, *more: server.start(MAIN, ["ingest", *RUN, "--db", str(db), *more])


def finish(process: Process) -> tuple[str, str]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


def workers_of(process: Process) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if "fleet.worker" in " ".join(child.cmdline())]


def until_units(db: Path, process: Process, wanted: int) -> int:
    """Wait until so many units are on disk; how many are."""
    found = 0
    while process.poll() is None and found < wanted:
        time.sleep(0.005)
        found = len(list(Path(f"{db}.parts").glob("*/unit-*/manifest.json")))
    return found


def floats(row: tuple) -> list[float]:
    return [value for value in row if isinstance(value, float)]


def not_floats(row: tuple) -> list:
    return [value for value in row if not isinstance(value, float)]


def assert_ended(workers: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert [worker.cmdline() for worker in alive] == []


def test_killed_interrupted_and_begun_again_two_processes_store_what_one_does(start, tmp_path):
    one, db = tmp_path / "one.duckdb", tmp_path / "two.duckdb"
    alone = start(one, "--device", "cpu")

    process = start(db, "--devices", "cpu:2")
    until_units(db, process, 1)
    workers = workers_of(process)
    assert len(workers) == 2
    process.send_signal(signal.SIGKILL)  # the driver, whose workers notice
    process.communicate()
    assert_ended(workers)

    process = start(db, "--devices", "cpu:2")
    n_units = until_units(db, process, 3)
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert_ended(workers)
    assert process.returncode == 130
    assert re.search(r"Interrupted. [3-8] of 9 units are finished and safe", err)
    assert "the same command continues from there" in err
    assert "Traceback" not in err
    assert n_units >= 3

    process = start(db, "--devices", "cpu:2")
    until_units(db, process, 5)
    workers_of(process)[0].send_signal(signal.SIGKILL)
    out, err = finish(process)
    assert "was killed by SIGKILL, as when memory runs out" in err
    assert err.count("preflight") == err.count("cross-check") == 1
    assert "is complete" in out
    assert "Traceback" not in err

    finish(alone)
    found, expected = contents(db), contents(one)
    assert set(differences(found, expected)) <= OF_THE_CUT | OF_SUMS
    for table in OF_SUMS:
        for row, other in zip(found[table], expected[table], strict=True):
            assert not_floats(row) == not_floats(other)
            assert floats(row) == pytest.approx(floats(other), rel=1e-6, abs=1e-5)
    with duckdb.connect(str(db), read_only=True) as con:
        command, device = con.execute("SELECT command, device FROM runs").fetchone()
        workers = con.execute("SELECT count(*), count(DISTINCT worker), min(seconds) > 0 FROM units").fetchone()
    assert (command, device) == (f"selfrepair ingest {' '.join(RUN)}", "cpu")
    assert workers[0] == 9
    assert workers[1] >= 2
    assert workers[2]
    assert "nothing was left to measure" in finish(start(db, "--devices", "cpu:2"))[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_ended_while_the_model_is_loaded_no_worker_is_left(start, tmp_path, number):
    process = start(tmp_path / "w.duckdb", "--devices", "cpu:2")
    workers = []
    while process.poll() is None and len(workers) < 2:
        time.sleep(0.01)
        workers = workers_of(process)
    process.send_signal(number)
    _, err = process.communicate()
    assert_ended(workers)
    assert process.returncode == 130
    assert "Interrupted." in err
    assert "Traceback" not in err


def test_where_no_worker_is_left_the_error_says_why_and_how_to_go_on(start, tmp_path):
    process = start(tmp_path / "w.duckdb", "--devices", "cpu:2")
    while process.poll() is None and len(workers_of(process)) < 2:
        time.sleep(0.01)
    for worker in workers_of(process):
        worker.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "no worker is left: cpu 1 of 2 was killed by SIGKILL" in err or "cpu 2 of 2 was killed by SIGKILL" in err
    assert "run the same command again" in err
    assert "Traceback" not in err


def test_a_model_that_is_refused_ends_the_run_with_its_message(start, server, tmp_path):
    texts = tmp_path / "few.txt"
    texts.write_text("a few words")
    line = ["ingest", "--model", "demo", "--dataset", str(texts), "--prompts", "9", "--devices", "cpu:2"]
    process = server.start(MAIN, [*line, "--db", str(tmp_path / "w.duckdb")])
    _, err = process.communicate()
    assert process.returncode == 1
    assert "Error: " in err
    assert "gives 0 rows of 128 tokens" in err
    assert "Traceback" not in err
