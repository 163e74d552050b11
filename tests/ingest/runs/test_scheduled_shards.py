"""A run that a scheduler's processes share, as a user starts it: the same warehouse as of one process, and what is said."""

import os
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace

import duckdb
import pytest
from click.testing import CliRunner

from selfrepair.ingest.cli.ingest import ingest
from selfrepair.ingest.cli.shards import print_placement, shard_outcome
from selfrepair.ingest.request.scheduler import Placement, placement
from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs.runner import check_same_crosschecks
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts import sharing
from selfrepair.warehouse.parts.activity import measuring
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.status import statuses
from support import tiny
from support.contents import contents, differences
from support.fabricate import fabricate
from support.loaded import load_rows
from support.warm import Process, Server

MAIN = "from selfrepair.app.cli.main import main; main()"
CUT = "import selfrepair.ingest.runs.plan as plan; plan.ROWS_IN_UNIT = 600; plan.N_CROSSCHECKS = 8; "


def array(number: int, count: int = 3) -> dict[str, str]:
    """Task `number`, from 1, of a Slurm array of three."""
    ids = {"ID": number, "COUNT": count, "MIN": 1, "MAX": count, "STEP": 1}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in ids.items()}


@pytest.fixture
def start(server: Server, tmp_path: Path):
    model, texts = tiny.save(tmp_path / "tiny"), tiny.write_texts(tmp_path / "texts.jsonl")

    def _start(db: Path, *more: str, environment: dict[str, str] | None = None) -> Process:
        command = ["ingest", "--model", str(model), "--dataset", str(texts), "--db", str(db), *more]
        usual = ["--prompts", "8", "--seq-len", "12", "--device", "cpu", "--batch-size", "6"]
        return server.start(f"import os; os.environ.update({environment or {}}); {CUT}{MAIN}", [*command, *usual])

    return _start


@pytest.mark.slow
def test_an_array_in_any_order_and_again_is_the_run_of_one_process(start, server, tmp_path):
    alone, db = tmp_path / "alone.duckdb", tmp_path / "w.duckdb"
    parts = Path(f"{db}.parts")
    finished(start(alone))

    def task(number: int) -> tuple[str, str]:
        return finished(start(db, "--shard", "auto", environment=array(number)))

    out, err = task(3)
    assert err.startswith("--shard auto is 3/3: SLURM_ARRAY_TASK_ID=3 of 3 from 1 to 3\n")
    assert f"shard 3/3: 2 units measured, 0 measured before. {parts} has nothing of" in out
    assert " of 1/3, 2/3 yet: if they have begun, they do not see this folder." in out
    loaded = server.start(MAIN, ["load", "--whole", "--rows-only", "--db", str(db)])
    assert "misses 6 units: 3 of shard 1/3" in loaded.communicate()[1]
    assert loaded.returncode == 1
    both = [start(db, "--shard", "auto", environment=array(number)) for number in (2, 1, 2)]  # one of them twice
    said = [finished(process)[0] for process in both]
    assert "shard 1/3: 3 units measured, 0 measured before." in said[1]
    ((run,), _) = statuses(parts, db)
    assert (run.status, run.loaded, run.in_parts, {one.host for one in run.by}) == ("measured", 2, 6, {gethostname()})
    out, _ = finished(server.start(MAIN, ["load", "--whole", "--db", str(db)]))
    assert out.endswith("\nwhole: run 1\n")
    assert f"shard 2/3: 0 units measured, 3 measured before. All of the run is in {db}." in task(2)[0]
    for each in (db, alone):  # as many rows in a unit as eight prompts allow; the units are the same
        with duckdb.connect(str(each)) as con:
            con.execute("UPDATE runs SET rows_in_unit = 0")
    assert differences(contents(db), contents(alone)) == []
    assert statuses(parts, db)[0][0].status == "complete"


def finished(process: Process) -> tuple[str, str]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out, err


def test_without_a_scheduler_it_is_refused_before_anything_is_loaded(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("SLURM_") or name in ("RANK", "JOB_COMPLETION_INDEX")]:
        monkeypatch.delenv(name)
    words = ["--model", "demo", "--shard", "auto", "--db", str(tmp_path / "w.duckdb")]
    with pytest.raises(SelfRepairError, match=r"--shard auto found none of SLURM_ARRAY_TASK_ID"):
        CliRunner().invoke(ingest, words, catch_exceptions=False)


def test_a_folder_on_a_disk_of_one_machine_is_told_where_there_may_be_others(tmp_path, capsys, monkeypatch):
    (tmp_path / "mounts").write_text("22 1 0:21 / / rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(sharing.disk_of_one_machine, "__defaults__", (tmp_path / "mounts",))
    alone = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for environment, is_told in ((array(2), True), (array(1, 1), False), (alone, False), (alone | array(1), True)):
        print_placement(placement("auto", environment), tmp_path / "parts")
        err = capsys.readouterr().err
        assert err.startswith("--shard auto is ")
        assert (f"Part files go to {tmp_path / 'parts'}, on a disk of this machine alone (ext4)" in err) is is_told
    print_placement(Placement(Shard(1, 2)), tmp_path / "parts")  # by hand: whoever types it knows
    assert capsys.readouterr().err == ""


def test_a_shard_says_who_has_not_begun_and_one_without_units_ends_well(tmp_path):
    run, db = fabricate(n_units=4), tmp_path / "w.duckdb"
    parts = run.write(tmp_path / "my parts", units=[0], crosscheck=False)
    of = {"run_key": "run-a", "n_units": 4, "parts": parts.root, "db": db}
    load = f"selfrepair load '{parts.root}' --db {db}"
    with measuring(parts.path, 1, 4), measuring(parts.path, 3, 4):
        pass
    assert shard_outcome(Shard(1, 4), 1, 0, **of) == (
        f"shard 1/4: 1 unit measured, 0 measured before. {parts.root} has nothing of 2/4, 4/4 yet: if they have begun, they "
        f"do not see this folder. When every shard is done, gather their part files in one folder and run: {load}"
    )
    assert shard_outcome(Shard(5, 5), 0, 0, **of) == (
        "this run is too small to split into 5 shards: it has 4 units, and 5/5 has none of them to measure. The others measure "
        f"all of it; then: {load}"
    )
    run.write(tmp_path / "my parts")
    assert shard_outcome(Shard(1, 4), 1, 0, **of) == (
        f"shard 1/4: 1 unit measured, 0 measured before. All of the run is measured. Next: {load}"
    )
    load_rows(db, parts.root)
    assert shard_outcome(Shard(1, 4), 0, 1, **of) == (
        f"shard 1/4: 0 units measured, 1 measured before. All of the run is in {db}. Next: selfrepair runs --db {db}"
    )


def test_shards_with_another_number_of_cross_checks_are_refused_before_they_measure(tmp_path):
    run = fabricate()
    plan = SimpleNamespace(record=replace(run.record, n_crosschecks=5))
    check_same_crosschecks(plan, PartsFolder(tmp_path, "run-a"))  # nothing is begun
    parts = run.write(tmp_path)
    check_same_crosschecks(SimpleNamespace(record=run.record), parts)
    with pytest.raises(
        SelfRepairError, match=r"begun with --crosscheck 3, and this one has --crosscheck 5.* the whole run with"
    ):
        check_same_crosschecks(plan, parts)
