"""A run's name stands for its number in links, and beside it where a run is chosen."""

import shutil
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.load.names import set_name
from support.fabricate import fabricate
from support.loaded import stored
from support.pages import opened, said

NAME = "a *bold* [name](http://example.com)"


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("named")
    made = stored(folder, fabricate("a", model="one"), fabricate("b", model="one", seed=5))
    db = Path(shutil.copy(made, folder / "named.duckdb"))
    set_name(db, "1", NAME)
    set_name(db, "2", "newest")
    return db


def test_a_link_names_runs(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("compare", db, monkeypatch, run=NAME, ablation="zero", run_b="newest", ablation_b="zero")
    chosen = {box.key: box.value for box in app.selectbox}
    assert (chosen["run"], chosen["run_b"]) == ("1", "2")
    (box,) = (box for box in app.selectbox if box.key == "run")
    assert box.options == ["2 (newest)", f"1 ({NAME})"]
    assert "does not exist" not in said(app)


def test_a_name_that_no_run_has_is_said(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("heads", db, monkeypatch, run="newes")
    assert "Run 'newes' does not exist here, or failed its cross-check; run 2 is shown instead." in said(app)


def test_a_run_without_a_name_is_not_compared_with_unasked(
    db: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unnamed = Path(shutil.copy(db, tmp_path / "unnamed.duckdb"))
    for run in ("1", "2"):
        set_name(unnamed, run, None)
    app = opened("compare", unnamed, monkeypatch, run="1", ablation="zero")
    assert {box.key: box.value for box in app.selectbox}["run_b"] == "1"


def test_a_number_is_that_of_a_run_whatever_another_is_called(
    db: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = Path(shutil.copy(db, tmp_path / "odd.duckdb"))
    with duckdb.connect(odd) as con:
        con.execute("UPDATE runs SET run_name = '1' WHERE run_id = 2")
    app = opened("heads", odd, monkeypatch, run="1")
    assert {box.key: box.value for box in app.selectbox}["run"] == "1"
