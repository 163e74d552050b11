"""Whole ingests as a user runs them: resumed after a kill, shared among shards, run again, run at the same time."""

import json
import random
import re
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from support import tiny
from support.contents import contents, differences
from support.warm import Process

pytestmark = pytest.mark.slow

ARGUMENTS = ("--prompts", "8", "--seq-len", "12", "--device", "cpu", "--batch-size", "6")
MAIN = "from selfrepair.app.cli.main import main; main()"
CUT = "import selfrepair.ingest.runs.plan as plan; plan.ROWS_IN_UNIT = 600; plan.N_CROSSCHECKS = 8; "
WITHOUT_SUMMARIES = (
    "import selfrepair.warehouse.load.loader as loader; loader.AFTER_LOAD = 'nobody'; "
    "import selfrepair.app.cli.run_report as report; report.print_report = lambda *of, **options: None; "
)
"""No views, nor the report, which would compute all of them for itself."""

SMALL_UNITS = CUT + WITHOUT_SUMMARIES + MAIN
ROWS = 8 * 11 * 3 * 4 * 3  # prompts x positions x layers x heads x ablations
COLUMNS = """
    ablation, prompt_id, pos, layer, head, direct_effect, ablated_direct_effect, logit_change, repair_layernorm,
    repair_attention, repair_mlp, ln_scale_ratio
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    return tiny.write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl")


Start = Callable[..., Process]


@pytest.fixture(scope="module")
def start(server) -> Start:
    """An ingest in a process of its own, cut into units of one or two prompts."""

    def _start(model: Path | str, texts: Path | str, db: Path, *more: str, program: str = SMALL_UNITS) -> Process:
        command = ["ingest", "--model", str(model), "--dataset", str(texts), "--db", str(db), *ARGUMENTS, *more]
        return server.start(program, command)

    return _start


def finish(process: Process) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def stored(db: Path) -> list[tuple]:
    with duckdb.connect(str(db), read_only=True) as connection:
        return connection.execute(f"SELECT {COLUMNS} FROM measurements ORDER BY ALL").fetchall()


@pytest.fixture(scope="module")
def unbroken_file(start, model, texts, tmp_path_factory) -> Path:
    db = tmp_path_factory.mktemp("unbroken") / "w.duckdb"
    finish(start(model, texts, db, program=CUT + MAIN))
    return db


@pytest.fixture(scope="module")
def unbroken(unbroken_file) -> list[tuple]:
    return stored(unbroken_file)


def units_on_disk(db: Path) -> int:
    return len(list(Path(f"{db}.parts").glob("*/unit-*/manifest.json")))


def test_one_run_stores_every_row_once(unbroken):
    assert len(unbroken) == ROWS
    assert len({row[:5] for row in unbroken}) == ROWS


def test_killed_at_random_moments_and_resumed_gives_the_same_rows(start, model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    moments = random.Random(7)
    for wanted in (1, 2, 4):  # units on disk when the kill comes, and a random moment after
        process = start(model, texts, db)
        while process.poll() is None and units_on_disk(db) < wanted:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    assert units_on_disk(db) >= 1
    finish(start(model, texts, db))
    assert stored(db) == unbroken
    assert "nothing was left to measure" in finish(start(model, texts, db))
    assert stored(db) == unbroken


@pytest.mark.parametrize(
    ("signal_name", "returned"), [("SIGINT", 130), pytest.param("SIGKILL", -9, marks=pytest.mark.exhaustive)]
)
def test_stopped_while_its_summaries_are_made_the_same_command_makes_them(
    signal_name, returned, start, model, texts, unbroken_file, tmp_path
):
    db = tmp_path / "w.duckdb"
    stop = (
        "import os, signal, selfrepair.queries.marts.refresh as marts; "
        f"marts._computed = lambda con, run_id: os.kill(os.getpid(), signal.{signal_name}); "
    )
    process = start(model, texts, db, program=CUT + stop + MAIN)
    process.communicate()
    assert process.returncode == returned
    assert not contents(db).get("selfrepair_marts.refreshed")
    assert "is complete: nothing was left to measure" in finish(start(model, texts, db, program=CUT + MAIN))
    assert differences(contents(db), contents(unbroken_file)) == []


def test_shards_joined_give_the_same_rows(server, start, model, texts, unbroken, tmp_path):
    db, parts = tmp_path / "a folder" / "w.duckdb", tmp_path / "all parts"
    db.parent.mkdir()
    both = [start(model, texts, db, "--shard", f"{i}/2", "--parts", str(parts)) for i in (1, 2)]
    told = {finish(process).partition("selfrepair load ")[2] for process in both}
    (load,) = map(shlex.split, told)
    assert not db.exists()
    finish(server.start(MAIN, ["load", *load]))
    assert stored(db) == unbroken
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status, crosscheck_rows FROM runs").fetchall() == [("complete", 8 * 11)]


def test_two_ingests_at_once_into_one_file_lose_nothing(start, model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    first = start(model, texts, db)
    second = start(model, texts, db, "--seed", "1")
    finish(first)
    finish(second)
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT run_id) FROM measurements").fetchone() == (
            2 * ROWS,
            2,
        )
        runs = connection.execute("SELECT run_key, status FROM runs").fetchall()
    assert len({key for key, _ in runs}) == 2
    assert {status for _, status in runs} == {"complete"}


def the_one_run(db: Path) -> tuple:
    """Status, rows, distinct rows and crosschecks of a warehouse that must hold one run; no part files are left."""
    assert not Path(f"{db}.parts").exists()
    with duckdb.connect(str(db), read_only=True) as connection:
        ((status, head_ablations),) = connection.execute(
            "SELECT status, (SELECT count(*) FROM crosschecks) FROM runs"
        ).fetchall()
    rows = stored(db)
    return status, len(rows), len({row[:5] for row in rows}), head_ablations


def test_the_same_ingest_twice_at_once_stores_every_row_once(start, model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    both = [start(model, texts, db) for _ in range(2)]
    assert all("run 1 of tiny is complete" in finish(process) for process in both)
    assert the_one_run(db) == ("complete", ROWS, ROWS, 8)
    assert stored(db) == unbroken


@pytest.mark.parametrize("last_file", ["means.npy", "unit-00001/tokens.parquet", "crosscheck-0-of-1.json"])
def test_a_slower_process_of_the_same_run_ends_well_when_the_faster_one_has_loaded_and_cleaned_up(
    start, model, texts, unbroken, tmp_path, last_file
):
    """`last_file` is what the slower process is about to write when the faster one removes the folder."""
    db, here, on = tmp_path / "w.duckdb", tmp_path / "here", tmp_path / "on"
    slow = (
        "import pathlib, time, selfrepair.warehouse.files as files\n"
        f"here, on, write = pathlib.Path({str(here)!r}), pathlib.Path({str(on)!r}), files.write_file\n"
        "def write_file(path, data):\n"
        f"    if all(part in str(path) for part in {last_file.split('/')}):\n"
        "        here.touch()\n"
        "        while not on.exists(): time.sleep(0.01)\n"
        "    write(path, data)\n"
        "files.write_file = write_file\n" + SMALL_UNITS
    )
    slower = start(model, texts, db, program=slow)
    while slower.poll() is None and not here.exists():
        time.sleep(0.01)
    finish(start(model, texts, db))
    on.touch()
    assert "complete" in finish(slower)
    assert the_one_run(db) == ("complete", ROWS, ROWS, 8)
    assert stored(db) == unbroken


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(start, model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    process = start(model, texts, db)
    while process.poll() is None and units_on_disk(db) < 2:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    done = units_on_disk(db)
    assert process.returncode == 130
    assert f"Interrupted. {done} of 8 units are finished and safe ({done} of 8 prompts" in err
    assert "the same command continues from there" in err
    assert "Traceback" not in err
    finish(start(model, texts, db))
    assert stored(db) == unbroken


def test_a_dry_run_writes_nothing(start, model, texts, tmp_path):
    db = tmp_path / "w.duckdb"
    out = finish(start(model, texts, db, "--dry-run", program=MAIN))
    assert f"{ROWS:,}" in out
    assert re.search(r"memory +about [\d,]{3,} MB of RAM", out)
    assert "Nothing was written" in out
    duration = r"(?:(\d+) min )?(\d+) s"
    ((minutes, seconds, stages),) = re.findall(rf"time +about {duration}: (.*)", out)
    found = {name: 60 * int(m or 0) + int(s) for name, m, s in re.findall(rf"([a-z][a-z -]*) {duration}", stages)}
    assert list(found) == ["start-up", "means and top rows", "measuring", "cross-check", "writing and loading"]
    assert 60 * int(minutes or 0) + int(seconds) == pytest.approx(sum(found.values()), abs=2)  # each is rounded
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_the_file_s_size(start, model, texts, unbroken_file, tmp_path):
    out = finish(start(model, texts, tmp_path / "w.duckdb", "--dry-run"))
    (told,) = re.findall(r"bytes +about ([\d,]+) in a new warehouse", out)
    assert int(told.replace(",", "")) == pytest.approx(unbroken_file.stat().st_size, rel=0.3)


def test_a_run_whose_cross_check_fails_is_marked_and_says_where(start, model, texts, tmp_path):
    db = tmp_path / "w.duckdb"
    spoilt = (
        "import selfrepair.ingest.runs.runner as run; stored = run.stored_rows; "
        "run.stored_rows = lambda *of: stored(*of) + 0.01; " + CUT + MAIN
    )
    process = start(model, texts, db, program=spoilt)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "marked failed" in err
    assert "differs by 0.01" in err
    assert "Traceback" not in err
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("failed",)]
        assert connection.execute("SELECT count(*) FROM measurements").fetchone() == (ROWS,)
        assert connection.execute("SELECT count(*) FROM head_repair").fetchone() == (0,)


def test_more_cells_of_a_finished_run_are_checked_and_fewer_change_nothing(start, model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"

    def checked() -> tuple[str, int, str]:
        with duckdb.connect(str(db), read_only=True) as connection:
            return connection.execute("SELECT status, (SELECT count(*) FROM crosschecks), checks FROM runs").fetchone()

    finish(start(model, texts, db, "--crosscheck", "3"))
    agrees = "identity, cross-check (plain forwards), TransformerBridge"
    assert checked() == ("complete", 3, agrees)
    for asked, found in ((2, 3), (12, 12), (8, 12)):
        process = start(model, texts, db, "--crosscheck", str(asked))
        assert "nothing was left to measure" in finish(process)
        assert checked() == ("complete", found, agrees)
    assert stored(db) == unbroken


CHECK_FAILS = (
    "from selfrepair.ingest.checks.reference import PlainForwards\n"
    "measure = PlainForwards.measure\n"
    "def fails(self, *every):\n"
    "    if self.adapter.n_layers == 1: return measure(self, *every)\n"
    "    raise RuntimeError('split_with_sizes does not fit')\n"
    "PlainForwards.measure = fails\n" + SMALL_UNITS
)


def test_a_dry_run_says_when_the_cross_check_will_not_run_and_estimates_the_rest(start, model, texts, tmp_path):
    out = finish(start(model, texts, tmp_path / "w.duckdb", "--dry-run", program=CHECK_FAILS))
    assert f"rows      {ROWS:,}" in out
    assert "After measuring, the cross-check by whole forwards with hooks could not run (split_with_sizes" in out


def test_finished_units_are_loaded_when_the_cross_check_cannot_run(start, model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    process = start(model, texts, db, program=CHECK_FAILS)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "could not run (split_with_sizes does not fit)" in err
    assert "Traceback" not in err
    assert stored(db) == unbroken
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("incomplete",)]
    finish(start(model, texts, db))
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("complete",)]


def test_a_lost_run_record_is_written_anew(start, model, texts, unbroken, tmp_path):
    db, parts = tmp_path / "w.duckdb", tmp_path / "parts"
    for _ in range(2):
        finish(start(model, texts, db, "--shard", "1/1", "--parts", str(parts)))
        (record,) = parts.glob("*/run.json")
        record.unlink()
    finish(start(model, texts, db, "--parts", str(parts)))
    assert stored(db) == unbroken


def test_rows_of_tokens_of_several_lengths_are_measured_as_they_are(start, model, tmp_path):
    rows = [[5, 9, 7], [8, 4, 4, 11, 30], [2, 12, 6], [3, 3, 7, 8, 9]]
    tokens = tmp_path / "tokens.jsonl"
    tokens.write_text("\n".join(json.dumps({"tokens": row}) for row in rows))
    db = tmp_path / "w.duckdb"
    process = start(model, tokens, db, "--prompts", "4")
    finish(process)
    with duckdb.connect(str(db), read_only=True) as connection:
        prompts = connection.execute(
            "SELECT token_ids, document_id, partner_id FROM prompts ORDER BY prompt_id"
        ).fetchall()
        per_prompt = connection.execute(
            "SELECT count(*) FROM measurements GROUP BY prompt_id ORDER BY prompt_id"
        ).fetchall()
    assert prompts == [(rows[0], 0, 1), (rows[2], 2, 0), (rows[1], 1, 3), (rows[3], 3, 2)]
    assert [count for (count,) in per_prompt] == [2 * 36, 2 * 36, 4 * 36, 4 * 36]
