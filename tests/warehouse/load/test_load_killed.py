"""Exactly once, whoever is killed and whoever else loads at the same time."""

import time
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.verify.verification import verify
from support.loaded import load_rows as load

N_UNITS = 16

LOADER = """
import sys, time
from pathlib import Path
from selfrepair.warehouse.load import loader as load
load.ROWS_PER_TRANSACTION = 1  # a transaction for each unit: more moments to be killed in
print("ready", flush=True)
began = time.perf_counter()
report = load.load(Path(sys.argv[1]), Path(sys.argv[2]), wait_s=60, after_load=False)
print(report.units, time.perf_counter() - began, flush=True)
"""


@pytest.fixture
def run(fabricate):
    return fabricate(n_units=N_UNITS, prompts_per_unit=2, seq_len=17, n_layers=3, n_heads=4)


def rows(db: Path) -> list[tuple]:
    with duckdb.connect(str(db), read_only=True) as con:
        return con.execute("SELECT * EXCLUDE (run_id) FROM measurements ORDER BY ALL").fetchall()


def state(db: Path) -> tuple[int, int]:
    """Units in the ledger, and units whose rows are there, whole."""
    with duckdb.connect(str(db), read_only=True) as con:
        ledger = con.execute("SELECT count(*) FROM units").fetchall()[0][0]
        counts = con.execute(
            "SELECT count(*) FROM measurements GROUP BY prompt_id // 2 HAVING count(*) = 2 * 16 * 3 * 4 * 3"
        ).fetchall()
        assert con.execute("SELECT count(*) FROM measurements").fetchall() == [(len(counts) * 2 * 16 * 3 * 4 * 3,)]
        assert con.execute("SELECT count(*) FROM prompts").fetchall() == [(len(counts) * 2,)]
        assert con.execute("SELECT count(*) FROM tokens").fetchall() == [(len(counts) * 2 * 16,)]
    return ledger, len(counts)


@pytest.fixture
def expected(run, tmp_path):
    run.write(tmp_path / "parts")
    load(tmp_path / "expected.duckdb", tmp_path / "parts")
    return rows(tmp_path / "expected.duckdb")


@pytest.mark.slow
def test_a_loader_killed_again_and_again_loads_every_unit_once(run, root, db, spawn, expected):
    run.write(root)
    # How long a whole load takes here decides when to kill: at moments spread from its start to past its end.
    reference = spawn(LOADER, db.with_name("reference.duckdb"), run.write(db.with_name("reference")).root)
    seconds = float(reference.communicate(timeout=60)[0].split()[-1])

    seen = []
    for kill in range(5):
        loader = spawn(LOADER, db, root)
        assert loader.stdout.readline() == "ready\n"
        time.sleep(seconds * (0.05 + 0.2 * kill))
        loader.kill()
        loader.wait()
        if db.exists():
            ledger, whole = state(db)
            assert ledger == whole
            seen.append(ledger)
    assert seen == sorted(seen)
    load(db, root)
    assert rows(db) == expected
    assert state(db) == (N_UNITS, N_UNITS)
    assert [check for check in verify(db) if not check.ok] == []
    assert not root.exists()
    assert not list(db.parent.glob(".w.duckdb*"))


@pytest.mark.slow
def test_two_loaders_at_once_share_the_work_and_double_nothing(run, root, db, spawn, expected):
    run.write(root)
    loaders = [spawn(LOADER, db, root) for _ in range(2)]
    loaded = []
    for loader in loaders:
        said, errors = loader.communicate(timeout=120)
        assert not errors
        loaded.append(int(said.split()[1]))
    assert sum(loaded) == N_UNITS
    assert rows(db) == expected


def test_a_unit_finished_while_another_loads_is_loaded_next_time(run, root, db, expected):
    run.write(root, units=list(range(7)), crosscheck=False)
    assert load(db, root).units == 7
    run.write(root, units=list(range(5, N_UNITS)))
    assert load(db, root).units == N_UNITS - 7
    assert rows(db) == expected
