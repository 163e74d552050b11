"""Whole ingests as a user runs them: resumed after a kill, shared among shards, run again, run at the same time."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from support import tiny

ARGUMENTS = ("--prompts", "8", "--seq-len", "12", "--device", "cpu", "--batch-size", "6")
SMALL_UNITS = (
    "import selfrepair.ingest.plan as plan; plan.ROWS_IN_UNIT = 600; from selfrepair.app.cli import main; main()"
)
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


def start(model: Path, texts: Path, db: Path, *more: str, program: str = SMALL_UNITS) -> subprocess.Popen[str]:
    """An ingest in a process of its own, cut into units of one or two prompts."""
    command = ["ingest", "--model", str(model), "--dataset", str(texts), "--db", str(db), *ARGUMENTS, *more]
    return subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def stored(db: Path) -> list[tuple]:
    with duckdb.connect(str(db), read_only=True) as connection:
        return connection.execute(f"SELECT {COLUMNS} FROM measurements ORDER BY ALL").fetchall()


@pytest.fixture(scope="module")
def unbroken(model, texts, tmp_path_factory) -> list[tuple]:
    db = tmp_path_factory.mktemp("unbroken") / "w.duckdb"
    finish(start(model, texts, db))
    return stored(db)


def units_on_disk(db: Path) -> int:
    return len(list(Path(f"{db}.parts").glob("*/unit-*/manifest.json")))


def test_one_run_stores_every_row_once(unbroken):
    assert len(unbroken) == ROWS
    assert len({row[:5] for row in unbroken}) == ROWS


def test_killed_at_random_moments_and_resumed_gives_the_same_rows(model, texts, unbroken, tmp_path):
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


def test_shards_joined_give_the_same_rows(model, texts, unbroken, tmp_path):
    db, parts = tmp_path / "w.duckdb", tmp_path / "parts"
    both = [start(model, texts, db, "--shard", f"{i}/2", "--parts", str(parts)) for i in (1, 2)]
    assert all("gather their parts" in finish(process) for process in both)
    assert not db.exists()
    load = [sys.executable, "-c", SMALL_UNITS, "load", str(parts), "--db", str(db)]
    subprocess.run(load, check=True, capture_output=True)
    assert stored(db) == unbroken
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status, crosscheck_rows FROM runs").fetchall() == [("complete", 64 * 11)]


def test_two_ingests_at_once_into_one_file_lose_nothing(model, texts, unbroken, tmp_path):
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


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    process = start(model, texts, db)
    while process.poll() is None and units_on_disk(db) < 1:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in err
    assert "same command" in err
    assert "Traceback" not in err
    finish(start(model, texts, db))
    assert stored(db) == unbroken


def test_a_dry_run_writes_nothing(model, texts, tmp_path):
    db = tmp_path / "w.duckdb"
    out = finish(start(model, texts, db, "--dry-run"))
    assert f"{ROWS:,}" in out
    assert "Nothing was written" in out
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_cross_check_fails_is_marked_and_says_where(model, texts, tmp_path):
    db = tmp_path / "w.duckdb"
    spoilt = (
        "import selfrepair.ingest.run as run; stored = run.stored_rows; "
        "run.stored_rows = lambda *of: stored(*of) + 0.01; " + SMALL_UNITS
    )
    process = start(model, texts, db, program=spoilt)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "marked failed" in err
    assert "differs by 0.01" in err
    assert "Traceback" not in err
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("failed",)]
        assert connection.execute("SELECT count(*) FROM measurements").fetchone() == (ROWS,)
        assert connection.execute("SELECT count(*) FROM head_repair").fetchone() == (0,)


def test_finished_units_are_loaded_when_the_cross_check_cannot_run(model, texts, unbroken, tmp_path):
    db = tmp_path / "w.duckdb"
    broken = (
        "import selfrepair.ingest.hook_method as hooks\n"
        "def boot(atlas): raise RuntimeError('split_with_sizes does not fit')\n"
        "hooks.boot = boot\n" + SMALL_UNITS
    )
    process = start(model, texts, db, program=broken)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "could not run (split_with_sizes does not fit)" in err
    assert "Traceback" not in err
    assert stored(db) == unbroken
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("running",)]
    finish(start(model, texts, db))
    with duckdb.connect(str(db), read_only=True) as connection:
        assert connection.execute("SELECT status FROM runs").fetchall() == [("complete",)]


def test_a_lost_run_record_is_written_anew(model, texts, unbroken, tmp_path):
    db, parts = tmp_path / "w.duckdb", tmp_path / "parts"
    for _ in range(2):
        finish(start(model, texts, db, "--shard", "1/1", "--parts", str(parts)))
        (record,) = parts.glob("*/run.json")
        record.unlink()
    finish(start(model, texts, db, "--parts", str(parts)))
    assert stored(db) == unbroken


def test_rows_of_tokens_of_several_lengths_are_measured_as_they_are(model, tmp_path):
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
