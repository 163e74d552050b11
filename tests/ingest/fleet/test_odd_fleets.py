"""Two drivers of one run whose clocks are an hour apart, and more workers than there are units: the rows of one process."""

import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from support import tiny
from support.contents import contents, differences
from support.fleets import FORKING
from support.warm import Process

pytestmark = pytest.mark.slow

PROGRAM = (
    FORKING + "import selfrepair.ingest.runs.plan as plan; plan.ROWS_IN_UNIT = 600; "
    "from datetime import datetime, timedelta; import selfrepair.warehouse.parts.folder as folder; "
    "ahead = timedelta(hours={hours}); "
    "folder.datetime = type('Ahead', (), dict(now=staticmethod(lambda zone: datetime.now(zone) + ahead))); "
    "from selfrepair.app.cli.main import main; main()"
)
OF_SUMS = {"selfrepair_marts.neuron_totals", "selfrepair_marts.repair_edges"}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("model")
    model, texts = tiny.save(folder / "tiny"), tiny.write_texts(folder / "texts.jsonl")
    return ["ingest", "--model", str(model), "--dataset", str(texts), "--seq-len", "12", "--packing", "document"]


@pytest.fixture
def start(server, line: list[str]) -> Callable[..., Process]:
    def _start(db: Path, *more: str, hours: int = 0) -> Process:
        return server.start(PROGRAM.format(hours=hours), [*line, *more, "--ablation", "mean", "--db", str(db)])

    return _start


def finish(process: Process) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return out


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_two_drivers_of_one_run_at_once_store_what_one_does(start: Callable[..., Process], tmp_path: Path) -> None:
    one, two = tmp_path / "one.duckdb", tmp_path / "two.duckdb"
    finish(start(one, "--prompts", "5", "--devices", "cpu:2"))
    drivers = [start(two, "--prompts", "5", "--devices", "cpu:2", hours=hours) for hours in (0, 1)]
    said = [finish(driver) for driver in drivers]
    assert all("run 1" in text.lower() for text in said)
    assert set(differences(contents(two), contents(one))) <= OF_SUMS
    with duckdb.connect(str(two), read_only=True) as con:
        ((status, n_units, n_loaded),) = con.execute(
            "SELECT status, n_units, (SELECT count(DISTINCT unit) FROM units) FROM runs"
        ).fetchall()
    assert (status, n_units) == ("complete", n_loaded)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked")
def test_more_workers_than_units_are_no_fault(start: Callable[..., Process], tmp_path: Path) -> None:
    out = finish(start(tmp_path / "w.duckdb", "--prompts", "2", "--devices", "cpu:3"))
    assert "is complete" in out
