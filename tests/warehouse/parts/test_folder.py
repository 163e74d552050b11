"""The exchange format: whole or not at all."""

import errno
import hashlib
import os
from dataclasses import replace
from datetime import datetime

import pytest

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.crosschecks import read_cells
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import Manifest
from selfrepair.warehouse.parts.records import CrosscheckCell

WRITER = """
import sys
from pathlib import Path
from support import fabricate
run = fabricate.fabricate(n_units=20, prompts_per_unit=4, seq_len=33, n_layers=4, n_heads=4)
parts = fabricate.PartsFolder(Path(sys.argv[1]), run.record.run_key)
parts.start(run.record)
print("ready", flush=True)
for unit in run.units:
    fabricate.write_unit(parts, unit)
print("done", flush=True)
"""


@pytest.fixture
def run(fabricate):
    return fabricate()


def put(parts, unit, **changes):
    values = {**vars(unit), **changes}
    return parts.write_unit(**values)


def test_nothing_is_there_before_it_is_written(root):
    parts = PartsFolder(root, "run-a")
    assert not parts.exists()
    assert parts.finished_units() == set()
    assert parts.finished_crosschecks() == []
    assert not root.exists()


def test_the_layout(run, root):
    parts = run.write(root)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*.*")) == [
        "run-a/crosscheck-0-of-1.json",
        "run-a/run.json",
        *(
            f"run-a/unit-0000{unit}/{name}"
            for unit in (0, 1)
            for name in ("manifest.json", "measurements.parquet", "prompts.parquet", "tokens.parquet")
        ),
    ]
    assert parts.finished_units() == {0, 1}
    assert parts.run() == run.record


def test_the_manifest_says_what_the_files_are(run, root):
    parts = run.write(root, units=[1])
    manifest = Manifest.from_json((parts.unit_path(1) / "manifest.json").read_text())
    assert (manifest.unit, manifest.first_prompt, manifest.n_prompts) == (1, 3, 3)
    assert manifest.identity_error_max == run.units[1].identity_error_max
    assert {name: file.rows for name, file in manifest.files.items()} == {
        "measurements.parquet": 3 * 4 * 3 * 4 * 3,
        "tokens.parquet": 3 * 4,
        "prompts.parquet": 3,
    }
    for name, file in manifest.files.items():
        data = (parts.unit_path(1) / name).read_bytes()
        assert (file.bytes, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def test_starting_again_keeps_when_it_began(run, root):
    parts = run.write(root)
    later = replace(run.record, started_at=datetime(2027, 1, 1), device="another")
    counts = parts.start(later)
    assert counts == replace(later, started_at=run.record.started_at)
    assert parts.run() == counts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_units": 9}, "n_units = 2, but now it is requested with 9"),
        ({"rows_in_unit": 9}, "another process began it, .* run the same command again: it goes on in those units"),
        ({"selected_heads": ("L0H0",)}, "selected_heads = L0H0, L0H1, .*but now it is requested with L0H0"),
    ],
)
def test_starting_again_with_another_cut_is_refused(run, root, change, message):
    parts = run.write(root)
    with pytest.raises(SelfRepairError, match=message):
        parts.start(replace(run.record, **change))
    assert parts.run() == run.record


def test_a_folder_takes_only_its_own_run(run, root):
    with pytest.raises(SelfRepairError, match="run run-a cannot start in the folder of run other"):
        PartsFolder(root, "other").start(run.record)


@pytest.mark.parametrize("key", ["", "..", "a/b", ".hidden", "a b"])
def test_a_run_key_must_be_a_folders_name(root, key):
    with pytest.raises(SelfRepairError, match="cannot name a folder"):
        PartsFolder(root, key)


@pytest.mark.parametrize("content", ["{", None])
def test_a_run_without_its_record_says_what_to_do(run, root, content):
    parts = run.write(root)
    (parts.path / "run.json").unlink()
    if content:
        (parts.path / "run.json").write_text(content)
    with pytest.raises(SelfRepairError, match=r"run\.json"):
        parts.run()


def test_units_of_another_cut_are_not_taken_for_those_of_a_run_whose_record_is_lost(run, root):
    parts = run.write(root, units=[0])
    (parts.path / "run.json").unlink()
    with pytest.raises(SelfRepairError, match=r"has lost its run\.json, .*another number of workers or shards"):
        PartsFolder(root, "run-a").start(replace(run.record, n_units=4, rows_in_unit=300))
    assert not parts.has_record()
    PartsFolder(root, "run-a").start(run.record)
    assert parts.run() == run.record


def test_a_unit_without_manifest_does_not_exist_and_is_written_anew(run, root):
    parts = run.write(root)
    (parts.unit_path(0) / "manifest.json").unlink()
    assert parts.finished_units() == {1}
    put(parts, run.units[0])
    assert parts.finished_units() == {0, 1}


def test_a_finished_unit_stays_as_it_is(run, root):
    parts = run.write(root)
    before = (parts.unit_path(0) / "manifest.json").read_bytes()
    put(parts, run.units[0], identity_error_max=0.5)
    assert (parts.unit_path(0) / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first_prompt": 1}, "prompts are not numbered from 1"),
        ({"identity_error_max": float("nan")}, "identity_error_max of unit 0 is nan"),
        ({"tokens": {}}, "part table tokens needs the columns"),
    ],
)
def test_a_refused_unit_leaves_nothing(run, root, change, message):
    parts = run.write(root, units=[])
    with pytest.raises(SelfRepairError, match=message):
        put(parts, run.units[0], **change)
    assert sorted(path.name for path in parts.path.iterdir()) == ["crosscheck-0-of-1.json", "run.json"]


def test_a_crosscheck_that_is_not_finite_is_refused(root):
    with pytest.raises(SelfRepairError, match="cross-check of prompt 4, L1H2 is inf"):
        PartsFolder(root, "run-a").write_crosscheck(0, 1, [CrosscheckCell(4, 1, 2, "zero", 3, float("inf"))])


def test_crosschecks_of_shards_lie_side_by_side(run, root):
    parts = run.write(root, units=[], crosscheck=False)
    for shard in (0, 1):
        parts.write_crosscheck(shard, 2, run.cells[shard : shard + 1])
    assert [path.name for path in parts.finished_crosschecks()] == ["crosscheck-0-of-2.json", "crosscheck-1-of-2.json"]
    assert read_cells(parts.crosscheck_path(1, 2), parts.run_key, run.record.stamp()) == run.cells[1:2]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_leaves_nothing_half_written(run, root, monkeypatch, number):
    parts = run.write(root, units=[0])

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        SelfRepairError, match=r"not enough space to write unit 1 .* needs [\d.]+ kB and .*run-a has .* free"
    ):
        put(parts, run.units[1])
    assert sorted(path.name for path in parts.path.iterdir()) == ["crosscheck-0-of-1.json", "run.json", "unit-00000"]


def test_a_folder_that_cannot_be_made_is_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfRepairError, match=r"cannot write run run-a into .*file: Not a directory\. Choose a folder"):
        PartsFolder(tmp_path / "file", "run-a").start(run.record)


def test_a_killed_writer_leaves_whole_units_and_the_next_start_sweeps(fabricate, root, spawn):
    writer = spawn(WRITER, root)
    parts = PartsFolder(root, "run-a")
    assert writer.stdout.readline() == "ready\n"
    living = spawn("import sys; print('here', flush=True); sys.stdin.readline()")
    assert living.stdout.readline() == "here\n"
    while not parts.finished_units():
        pass
    writer.kill()
    writer.wait()
    for unit in parts.finished_units():
        manifest = Manifest.from_json((parts.unit_path(unit) / "manifest.json").read_text())
        for name, file in manifest.files.items():
            assert hashlib.sha256((parts.unit_path(unit) / name).read_bytes()).hexdigest() == file.sha256

    host = os.uname().nodename.replace(".", "-")
    leftovers = {pid: parts.path / f".unit-00019.{host}.{pid}.tmp" for pid in (writer.pid, living.pid)}
    foreign = parts.path / f".unit-00018.elsewhere.{writer.pid}.tmp"
    for path in (*leftovers.values(), foreign):
        path.mkdir(exist_ok=True)
    kept = parts.finished_units()
    parts.start(parts.run())
    assert {path for path in parts.path.iterdir() if path.name.startswith(".")} == {leftovers[living.pid], foreign}
    assert parts.finished_units() == kept


@pytest.mark.slow
def test_two_writers_of_the_same_units_finish_each_once(root, spawn):
    writers = [spawn(WRITER, root) for _ in range(2)]
    for writer in writers:
        said, errors = writer.communicate(timeout=60)
        assert said == "ready\ndone\n", errors
    parts = PartsFolder(root, "run-a")
    assert parts.finished_units() == set(range(20))
    assert not list(parts.path.glob(".*"))
