"""The command that computes summaries."""

import re
from pathlib import Path

import duckdb
import pytest

from selfrepair.queries.cli.refresh import refresh
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import load
from support.commands import run
from support.fabricate import fabricate


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A loaded warehouse to change."""
    path = tmp_path / "w.duckdb"
    fabricate("own").write(tmp_path / "parts")
    load(path, tmp_path / "parts")
    return path


def n_heads(path: Path) -> int:
    with duckdb.connect(path, read_only=True) as con:
        (n,) = con.execute("SELECT count(*) FROM head_repair").fetchall()[0]
    return int(n)


@pytest.mark.slow
def test_refresh_computes_what_is_missing_and_says_so(own: Path) -> None:
    assert run(refresh, "--db", own).stdout == f"{own}: the summaries of all runs are up to date\n"
    n = n_heads(own)
    with duckdb.connect(own) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    assert n_heads(own) == 0
    assert re.fullmatch(r"run 1: summarised in \d+\.\d s\n", run(refresh, "--db", own).stdout)
    assert n_heads(own) == n > 0


@pytest.mark.slow
def test_refresh_of_a_run_does_not_ask_whether_it_is_needed(own: Path) -> None:
    with duckdb.connect(own) as con:
        con.execute("UPDATE measurements SET direct_effect = direct_effect + 1")
    assert re.fullmatch(r"run 1: summarised in \d+\.\d s\n", run(refresh, "--db", own, "--run", "1").stdout)
    with duckdb.connect(own, read_only=True) as con:
        ((stored,), (measured,)) = con.execute(
            "SELECT mean_direct_effect FROM model_repair WHERE ablation = 'mean' AND population = 'all' "
            "UNION ALL SELECT avg(direct_effect) FROM measurements WHERE ablation = 'mean'"
        ).fetchall()
    assert stored == pytest.approx(measured)


def test_refresh_names_what_is_not_there(own: Path, tmp_path: Path) -> None:
    with pytest.raises(SelfRepairError, match=r"run 7 has no rows in .*; runs that have: 1\. See: selfrepair runs"):
        run(refresh, "--db", own, "--run", "7")
    with pytest.raises(SelfRepairError, match="there is no warehouse at"):
        run(refresh, "--db", tmp_path / "none.duckdb")
    assert not (tmp_path / "none.duckdb").exists()
