"""How far runs are, as `selfrepair status` and the end of a load say it: while others measure, and from damaged folders."""

import json
import re
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from shutil import rmtree

import pytest
from click.testing import CliRunner

from selfrepair.warehouse.cli import commands
from selfrepair.warehouse.cli.status import in_time, status
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.registry import refresh
from selfrepair.warehouse.parts.activity import measuring
from selfrepair.warehouse.parts.manifest import Manifest, MeasuredBy
from selfrepair.warehouse.parts.status import statuses
from support.hostile import COMMANDS
from support.loaded import load_rows

INGEST = "selfrepair ingest --model tiny-model --seed 11"


@pytest.fixture
def call(db):
    def _call(command, *args: object):
        return CliRunner().invoke(command, [*map(str, args), "--db", str(db)], catch_exceptions=False)

    return _call


@pytest.fixture
def run(fabricate):
    return fabricate(n_units=6)


def fail(parts, index: int, count: int, text: str) -> None:
    with pytest.raises(SelfRepairError), measuring(parts.path, index, count, "cuda:1"):
        raise SelfRepairError(text)


def rewrite(parts, unit: int, **changed) -> None:
    """A manifest that says something else, as if it had been written so."""
    path = parts.unit_path(unit) / "manifest.json"
    path.write_text(replace(Manifest.from_json(path.read_text()), **changed).to_json())


def test_a_shared_run_is_told_by_shard_and_by_whom(run, call, db, root):
    parts = run.write(root, units=[0, 3], crosscheck=False)
    fail(parts, 2, 3, "the disk of this\nnode is full")
    with measuring(parts.path, 1, 3, "cpu"):
        lines = call(status).output.splitlines()
    assert (
        lines[0]
        == "run run-a (tiny-model on tiny-text, 18 prompts) is running: 2 of 6 units measured, 0 of them loaded"
    )
    assert lines[1].split() == [*("parts", "2", "units", "in", "part", "files,", "to", "be", "loaded")]
    assert lines[2] == "  missing   4 units: 2 of shard 2/3; 2 of shard 3/3, which never wrote into this folder"
    assert re.fullmatch(r"  last      unit 3, 20.{17} UTC on abacus, by its clock", lines[3])
    assert [line.split()[2:] for line in lines[7:10]] == [
        ["cpu", "running", "0", "-"],
        ["cuda:1", "stopped", "0", "-", "the", "disk", "of", "this", "node", "is", "full"],
        ["beads:1", "done", "2", "4.0"],
    ]
    assert lines[10:] == [
        f"  next      {INGEST} --db {db} --shard 2/3",
        f"            {INGEST} --db {db} --shard 3/3",
    ]


def test_the_last_line_of_a_load_says_what_is_missing_and_whole_needs_all(run, call, db, root):
    parts = run.write(root, units=[0, 3, 4], crosscheck=False)
    fail(parts, 2, 3, "out of memory")
    for options, exit_code in (((), 0), (("--whole",), 1)):
        done = call(commands.load, "--rows-only", *options)
        assert done.exit_code == exit_code
        assert done.output.splitlines()[-1] == (
            "run 1 is not whole, it misses 3 units: 1 of shard 2/3; 2 of shard 3/3, which never wrote into this folder. Next: "
            f"{INGEST} --db {db} --shard 2/3 (and so for the others), then selfrepair load {root} --db {db}"
        )
        assert "out of memory" in done.output
    run.write(root, crosscheck=False)
    done = call(commands.load, "--rows-only", "--whole")
    assert done.exit_code == 1
    assert "misses the cross-check of 3 cells. Next: " in done.output.splitlines()[-1]
    run.write(root)
    done = call(commands.load, "--rows-only", "--whole")
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "whole: run 1")
    again = call(commands.load, f"{root}/{parts.run_key}", "--rows-only", "--whole")
    assert (again.exit_code, again.output.splitlines()[-1]) == (0, "whole: run 1, loaded before")
    assert call(status).output.splitlines()[0].endswith("is complete: 6 of 6 units measured, all of them loaded")


def test_without_part_files_whole_needs_the_name_of_a_run(fabricate, call, db, root):
    """Or a load after shards that never began would end well, for the runs that were there before."""
    with open_writer(db):
        pass
    empty = call(commands.load, "--rows-only", "--whole")
    assert (empty.exit_code, f"there are no part files in {root}" in empty.stderr) == (1, True)
    fabricate("run-a").write(root)
    fabricate("run-b", n_units=3).write(root, units=[0])
    load_rows(db, root)
    rmtree(root)
    both = call(commands.load, "--rows-only", "--whole")
    assert both.exit_code == 1
    assert f"selfrepair load {root}/KEY --db {db} --whole ends well" in both.stderr
    one = call(commands.load, root / "run-a", "--rows-only", "--whole")
    assert (one.exit_code, one.output.splitlines()[-1]) == (0, "whole: run 1, loaded before")
    assert call(commands.load, root / "run-b", "--rows-only", "--whole").exit_code == 1
    with pytest.raises(SelfRepairError, match=r"there is no folder .*run-c"):
        call(commands.load, root / "run-c", "--rows-only", "--whole")


def test_a_cross_check_that_is_not_loaded_is_the_next_step(run, call, db, root):
    run.write(root, crosscheck=False)
    load_rows(db, root)
    run.write(root, units=[])
    lines = call(status).output.splitlines()
    assert lines[0].endswith("is measured: 6 of 6 units measured, all of them loaded")
    assert lines[1] == "  parts     the cross-check of 3 cells in part files, to be loaded"
    assert f"  next      selfrepair load {root} --db {db}" in lines
    load_rows(db, root)
    assert " is complete: " in call(status).output


def test_of_a_run_without_units_none_are_called_loaded(run, call, root):
    parts = run.write(root, units=[], crosscheck=False)
    fail(parts, 1, 1, "out of memory")
    assert call(status).output.splitlines()[0].endswith(" is stopped: 0 of 6 units measured")


def test_a_run_with_a_failed_cross_check_is_not_whole(fabricate, call, db, root):
    run = fabricate()
    wrong = replace(run, cells=[replace(run.cells[0], error_max=0.25), *run.cells[1:]])
    wrong.write(root)
    done = call(commands.load, "--rows-only", "--whole")
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("run 1 is failed: its cross-check differs by 0.25 logits")
    assert "run 1 is failed: its cross-check differs by 0.25 logits" in call(status).output


def test_json_has_everything(run, call, db, root):
    run.write(root, units=[0], crosscheck=False)
    load_rows(db, root)
    parts = run.write(root, units=[0, 1, 5])
    fail(parts, 3, 4, "no power")
    (found,) = json.loads(call(status, "--json").output)
    assert {
        name: found[name] for name in ("run_id", "n_units", "loaded", "in_parts", "missing", "by_shard", "silent")
    } == {
        "run_id": 1,
        "n_units": 6,
        "loaded": 1,
        "in_parts": 2,
        "missing": [2, 3, 4],
        "by_shard": {"1/4": 1, "3/4": 1, "4/4": 1},
        "silent": ["1/4", "4/4"],
    }
    assert (found["status"], found["why"], found["cells"], found["n_cells"]) == ("stopped", "no power", 3, 3)
    assert found["seconds_of_one"] == pytest.approx(3 * (2.5 + 3.5 + 7.5) / 3)
    assert (found["seconds_left"], found["rows_per_s"], found["is_whole"]) == (None, None, False)
    shards = [f"{INGEST} --db {db} --shard {i}/4" for i in (1, 3, 4)]
    assert found["next"] == [*shards, f"selfrepair load {root} --db {db}"]
    assert found["last"]["unit"] == 5
    page = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")
    table = page[page.index("| field |") :].partition("\n\n")[0]
    documented = {name for row in table.splitlines()[2:] for name in re.findall(r"`([a-z._]+)`", row.split("|")[1])}
    documented |= set(re.findall(r"`((?:by|last)\.[a-z_]+)`", table))
    nested = {f"by.{name}" for name in found["by"][0]} | {f"last.{name}" for name in found["last"]}
    assert documented == found.keys() | nested
    assert [(one["host"], one["units"], one["seconds"]) for one in found["by"]][1:] == [("abacus", 3, 4.5)]


def test_the_time_left_is_that_of_the_slowest_and_no_clock_of_two_machines_is_compared(run, root, db, monkeypatch):
    """Of shards that are running, each has its own pace; a clock that is an hour ahead changes nothing."""
    parts = run.write(root, units=[0, 1], crosscheck=False)
    names = {"fast": (0, 2.0), "slow": (1, 8.0)}
    with measuring(parts.path, 1, 2), measuring(parts.path, 2, 2):
        notes = sorted(parts.path.glob("worker-*"))
        for note, (host, (unit, seconds)) in zip(notes, names.items(), strict=True):
            said = json.loads(note.read_text())
            with note.open("r+") as file:  # in place: the lock is of this very file
                file.write(json.dumps({**said, "host": host, "pid": 7}).ljust(4096))
            path = parts.unit_path(unit) / "manifest.json"
            at = Manifest.from_json(path.read_text()).measured_at + timedelta(hours=unit)
            rewrite(parts, unit, by=MeasuredBy(host, "cpu", f"{host}:7", seconds), measured_at=at)
        ((found,), _) = statuses(root, db)
        assert found.time.seconds_left == pytest.approx(2 * 8.0)  # of the slow one's three units, two are left
        assert found.time.rows_per_s == pytest.approx(432 / 2 + 432 / 8)
        assert (found.last[0], found.last[1]) == (1, "slow")
        assert [(one.host, one.units, one.seconds) for one in found.by] == [("fast", 1, 2.0), ("slow", 1, 8.0)]
        assert found.next == ()
        with measuring(parts.path, 2, 2):  # the same shard twice: as if both shared it
            ((found,), _) = statuses(root, db)
            assert found.time.seconds_left == pytest.approx(2 * 432 / (432 / 8 + 864 / 10))


def test_processes_that_one_process_leads_are_told_by_device(run, root, db):
    parts = run.write(root, units=[0, 1, 2], crosscheck=False)
    rewrite(parts, 2, by=None)  # of an earlier version
    parts.crosscheck_path(0, 1).write_text(json.dumps([asdict(cell) for cell in run.cells]))  # as version 0.1 wrote it
    with measuring(parts.path, device="cuda:0, cuda:1", processes=2):
        ((found,), _) = statuses(root, db)
        assert [(one.device, one.status, one.units) for one in found.by][:1] == [("cuda:0, cuda:1", "running", 0)]
        for unit in (0, 1):
            rewrite(parts, unit, by=MeasuredBy(socket.gethostname(), f"cuda:{unit}", f"x:{unit}", 4.0))
        ((found,), _) = statuses(root, db)
    assert [(one.device, one.status, one.units, one.seconds) for one in found.by] == [
        ("cuda:0", "running", 1, 4.0),
        ("cuda:1", "running", 1, 4.0),
        (None, "done", 1, None),
    ]
    with measuring(parts.path, device="cuda:1", processes=1):
        assert [(one.device, one.status, one.units) for one in statuses(root, db)[0][0].by][:2] == [
            ("cuda:0", "running", 1),
            ("cuda:1", "running", 1),
        ]
    with measuring(parts.path, device="gpu1, gpu2", processes=2, hosts=["gpu1", "gpu2"]):
        rewrite(parts, 2, by=MeasuredBy("gpu2", "cuda:0", "gpu2:9", 4.0))
        by = {(one.host, one.device): one.status for one in statuses(root, db)[0][0].by}
    assert by["gpu2", "cuda:0"] == "running"
    assert by[socket.gethostname(), "cuda:0"] == "done"
    assert found.cells == 3
    assert (found.time.rows_per_s, found.time.seconds_left) == (2 * 432 / 4.0, 3 * 432 / (2 * 432 / 4.0))


def test_damaged_manifests_are_named_and_everything_else_is_counted(run, call, root):
    parts = run.write(root)
    rewrite(parts, 5, by=MeasuredBy("a", "b", ["c"], float("nan")))
    texts = {0: "", 1: "[]", 2: "{}"}
    for unit, text in texts.items():
        (parts.unit_path(unit) / "manifest.json").write_text(text)
    manifest = parts.unit_path(3) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"first_prompt": 9', '"first_prompt": 8'))
    parts.unit_path(4).rename(parts.unit_path(7))
    (parts.path / "unit-00009").mkdir()
    (parts.path / "crosscheck-1-of-2.json").write_text("[")
    (root / "other").mkdir()
    (root / "other" / "run.json").write_text("{")
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    done = call(status)
    assert done.exit_code == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before
    assert f"{root / 'other' / 'run.json'}: the record of a run is not JSON" in done.stderr
    lines = done.output.splitlines()
    assert "0 of 6 units measured" in "\n".join(lines)
    damaged = [line.split()[1] for line in lines if line.startswith("  damaged")]
    assert damaged == [str(parts.unit_path(unit) / "manifest.json") for unit in (0, 1, 2, 3, 5, 7)]
    assert "it was altered after it was written" in done.output
    assert "it is of unit 4" in done.output
    assert "Delete these units' folders" in done.output


def test_what_a_folder_says_does_nothing_to_the_terminal(fabricate, call, root):
    for number, command in enumerate(COMMANDS):
        run = fabricate(f"run-{number}", model="a\x1b]0;b\x07")
        parts = replace(run, record=replace(run.record, command=command)).write(root, units=[0], crosscheck=False)
        fail(parts, 1, 1, "c\x1b[2J")
    (root / "other").mkdir()
    (root / "other" / "run.json").write_text(json.dumps({"d\x1b]0;e\x07": 1}))
    output = call(status).output
    assert output.replace("\n", "").isprintable()
    assert output.count("the ingest command or call that began it") == len(COMMANDS)
    record = replace(run.record, command=f"{INGEST} --trust-remote-code")
    (parts.path / "run.json").write_text(record.to_json())
    assert "It runs code that comes with the model (--trust-remote-code)" in call(status, parts.path).output


def test_another_folder_is_named_in_what_is_typed_next(run, call, db, tmp_path):
    moved = tmp_path / "gathered parts"
    record = replace(run.record, command=f"{run.record.command} --parts ./parts")
    replace(run, record=record).write(moved, units=[0], crosscheck=False)
    assert f"next      {INGEST} --db {db} --parts '{moved}'\n" in call(status, moved).output
    assert f"next      {INGEST} --db {db} --parts '{moved}'\n" in call(status, moved / "run-a").output
    run.write(moved)
    assert f"next      selfrepair load '{moved}' --db {db}\n" in call(status, moved).output


def test_a_warehouse_that_is_being_written_is_not_waited_for(run, call, db, root, spawn):
    with open_writer(db):
        pass
    holder = spawn(
        "import duckdb, sys\ncon = duckdb.connect(sys.argv[1])\nprint('open', flush=True)\nsys.stdin.read()", db
    )
    run.write(root, units=[2])
    assert holder.stdout.readline() == "open\n"
    done = call(status)
    assert "What is loaded is not counted: " in done.stderr
    assert "1 of 6 units measured" in done.output


def test_where_nothing_is_it_says_what_to_name(call, db, tmp_path, root):
    for arguments, message in (
        ((), rf"{root}, and no warehouse {db}\. Name"),
        ((tmp_path / "x",), r"folder of part files .*x"),
    ):
        with pytest.raises(SelfRepairError, match=message):
            call(status, *arguments)
    root.mkdir()
    assert call(status).output == f"no run in {root}: selfrepair ingest begins one\n"
    with open_writer(db):
        pass
    assert call(status).output == f"no run in {root} or {db}: selfrepair ingest begins one\n"


def test_a_run_whose_parts_are_gone_says_so(run, call, db, root):
    parts = run.write(root, units=[0], crosscheck=False)
    load_rows(db, root)
    parts.remove([], is_whole=True)
    output = call(status).output
    assert "is incomplete: 1 of 6 units measured, all of them loaded" in output
    assert f"why       there is no {parts.path}" in output
    with open_writer(db) as con:
        con.execute("UPDATE runs SET run_key = '../w'")
        refresh(con, 1)
    assert "why       its key '../w' names no folder of part files" in call(status).output


def test_durations():
    assert [in_time(seconds) for seconds in (0.4, 89, 100, 3599, 11_100, 400_000)] == [
        *("0 s", "89 s", "2 min", "1 h 0 min", "3 h 5 min", "4 days")
    ]


def test_part_files_are_told_without_what_measures_writes_and_loads_them(tmp_path: Path):
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'transformers', 'pyarrow', 'numpy', 'duckdb')))\n"
        "from selfrepair.warehouse.cli.status import status\n"
        "status(standalone_mode=False)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"no run in {tmp_path}")
