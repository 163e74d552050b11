"""Real processes measure one run, are killed, interrupted and begun again: the rows are those of one process."""

import re
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import psutil
import pytest

from support.fleets import FORKING, MAIN, RUN, assert_ended, assert_same_run, finish, forked, measured_by, until_units
from support.warm import Process, Server

pytestmark = pytest.mark.slow


@pytest.fixture
def start(server: Server) -> Callable[..., Process]:
    """An ingest; where it `is_forked`, its workers are, too, and have everything imported that it has."""

    def _start(db: Path, *more: str, is_forked: bool = False) -> Process:
        program = FORKING + MAIN if is_forked else MAIN
        return server.start(program, ["ingest", *RUN, *more, "--db", str(db)])

    return _start


def workers_of(process: Process) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if "fleet.worker" in " ".join(child.cmdline())]


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

    process = start(db, "--devices", "cpu:2", is_forked=True)
    n_units = until_units(db, process, 3)
    workers = forked(db)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert_ended(workers)
    assert process.returncode == 130
    assert re.search(r"Interrupted. [3-8] of 9 units are finished and safe", err)
    resumed = re.search(r"the same command continues from there: selfrepair (ingest .*)", err)
    assert shlex.split(resumed[1]) == ["ingest", *RUN, "--devices", "cpu:2", "--db", str(db)]
    assert "Traceback" not in err
    assert n_units >= 3

    process = start(db, "--devices", "cpu:2", is_forked=True)
    until_units(db, process, 5)
    forked(db)[0].send_signal(signal.SIGKILL)
    out, err = finish(process)
    assert "was killed by SIGKILL, as when memory runs out" in err
    assert err.count("preflight") == err.count("cross-check") == 1
    assert "is complete" in out
    assert "Traceback" not in err

    finish(alone)
    assert_same_run(db, one)
    with duckdb.connect(str(db), read_only=True) as con:
        command, device = con.execute("SELECT command, device FROM runs").fetchone()
    assert (command, device) == (f"selfrepair ingest {' '.join(RUN)}", "cpu")
    n_units, n_workers = measured_by(db)
    assert n_units == 9
    assert n_workers >= 2
    assert "nothing was left to measure" in finish(start(db, "--devices", "cpu:2", is_forked=True))[0]


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
