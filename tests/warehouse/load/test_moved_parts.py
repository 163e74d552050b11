"""Parts say which run they are of and what measured them: what was moved, edited or measured otherwise is not loaded."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.folder import PartsFolder, check_version
from selfrepair.warehouse.verify.verification import verify
from support.fabricate import FabricatedRun
from support.loaded import load_rows as load


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def move_unit(one: Path, other: Path) -> None:
    shutil.rmtree(other / "unit-00001")
    shutil.copytree(one / "unit-00001", other / "unit-00001")


def move_without_record(one: Path, other: Path) -> None:
    """A unit and a cross-check, once the run is known and its record gone."""
    shutil.rmtree(other / "unit-00001")
    load(Path(str(other.parent).removesuffix(".parts")), other.parent, run_key=other.name, keep_parts=True)
    (other / "run.json").unlink()
    shutil.copytree(one / "unit-00001", other / "unit-00001")
    move("crosscheck-0-of-1.json")(one, other)


def move(name: str) -> Callable[[Path, Path], None]:
    return lambda one, other: shutil.copy(one / name, other / name) and None


ONE, BOTH, NONE = {"run-b": 1}, {"run-b": 2}, {}
MOVED: dict[str, tuple[Callable[[Path, Path], None], str, dict[str, int]]] = {
    "a unit of another run": (
        move_unit,
        r"unit-00001 is of run run-a, not of run run-b\. Nothing of this unit was loaded",
        ONE,
    ),
    "another run's record": (move("run.json"), r"has the record of run run-a: it was moved or renamed", NONE),
    "another run's cross-check": (
        move("crosscheck-0-of-1.json"),
        r"crosscheck-0-of-1\.json .* is of run run-a, not of",
        BOTH,
    ),
    "parts of another run beside no record": (
        move_without_record,
        r"(?s)unit-00001 is of run run-a, not of run run-b\. .*crosscheck-0-of-1\.json .* is of run run-a, not of run run-b",
        ONE,
    ),
    "an edited record": (
        lambda one, other: edit(other / "run.json", seed=5),
        r"run-b: every unit in it was measured for another run\.json than the one beside it, which was altered",
        NONE,
    ),
    "an edited manifest": (
        lambda one, other: edit(other / "unit-00001" / "manifest.json", identity_error_max=1e-9),
        r"manifest\.json cannot be read as a manifest: it was altered after it was written",
        ONE,
    ),
    "an edited cross-check": (
        lambda one, other: edit(other / "crosscheck-0-of-1.json", cells=[]),
        r"crosscheck-0-of-1\.json .*it was altered after it was written",
        BOTH,
    ),
}


@pytest.mark.parametrize("what", MOVED)
def test_what_was_moved_or_edited_is_not_loaded(what, fabricate, db, root, ask):
    change, message, left = MOVED[what]
    one, other = (fabricate(key, model=key, seed=n).write(root) for n, key in enumerate(("run-a", "run-b")))
    change(one.path, other.path)
    with pytest.raises(SelfRepairError, match=message):
        load(db, root)
    loaded = dict(ask("SELECT run_key, count(unit) FROM runs LEFT JOIN units USING (run_id) GROUP BY run_key"))
    assert loaded == {"run-a": 2} | left
    assert all(check.ok for check in verify(db))


def of_another_tokenizer(run: FabricatedRun) -> FabricatedRun:
    return replace(run, record=replace(run.record, tokenizer_sha256="other"))


def of_other_weights(run: FabricatedRun) -> FabricatedRun:
    return replace(run, record=replace(run.record, model=replace(run.record.model, weights_sha256="other")))


def of_another_version(run: FabricatedRun) -> FabricatedRun:
    return replace(run, record=replace(run.record, software={**run.record.software, "selfrepair": "0.2.1"}))


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (of_another_tokenizer, "unit-00001 was measured with another tokenizer than that"),
        (of_other_weights, "unit-00001 was measured with other weights than those"),
        (
            of_another_version,
            r"unit-00001 was measured by selfrepair 0\.2\.1, and .* of selfrepair 0\.1\.0.*measures what is",
        ),
    ],
)
def test_shards_that_were_measured_otherwise_are_not_joined(measured, message, fabricate, db, root, tmp_path, ask):
    run = fabricate()
    parts = run.write(root, units=[0])
    shard = measured(run).write(tmp_path / "shard", units=[1], crosscheck=False)
    shutil.copytree(shard.path / "unit-00001", parts.path / "unit-00001")
    with pytest.raises(SelfRepairError, match=message):
        load(db, root)
    assert ask("SELECT unit FROM units") == [(0,)]


def test_a_run_goes_on_with_the_version_that_began_it(fabricate, db, root):
    started = of_another_version(fabricate())
    started.write(root, units=[0])
    with pytest.raises(SelfRepairError, match=r"begun by selfrepair 0\.2\.1.*pip install selfrepair==0\.2\.1"):
        PartsFolder(root, "run-a").start(replace(started.record, software={"selfrepair": "0.3.0"}))
    load(db, root)
    shutil.rmtree(root)
    fabricate().write(root, units=[1])
    with pytest.raises(
        SelfRepairError, match=r"begun by selfrepair 0\.2\.1, and these parts are of selfrepair 0\.1\.0"
    ):
        load(db, root)
    check_version("run-a", {"selfrepair": "0.1.0"}, {"selfrepair": "0.2.0"})


def test_parts_of_before_there_were_stamps_are_loaded(fabricate, db, root, ask):
    run = fabricate()
    parts = run.write(root)
    for unit in (0, 1):
        path = parts.unit_path(unit) / "manifest.json"
        path.write_text(
            json.dumps(
                {name: value for name, value in json.loads(path.read_text()).items() if name not in ("run", "sha256")}
            )
        )
    parts.crosscheck_path(0, 1).write_text(json.dumps([vars(cell) for cell in run.cells]))
    edit(root / "run-a" / "run.json", device="another machine")
    load(db, root)
    assert ask("SELECT status, n_measurements FROM runs") == [("complete", 864)]


def test_an_array_that_was_moved_or_edited_is_made_anew(root):
    one, other = PartsFolder(root, "run-a"), PartsFolder(root, "run-b")
    values = np.arange(6.0).reshape(2, 3)
    one.write_array("means.npy", values)
    assert np.array_equal(one.array("means.npy"), values)
    other.path.mkdir()
    shutil.copy(one.path / "means.npy", other.path)
    assert other.array("means.npy") is None
    np.save(other.path / "means.npy", values)  # as version 0.1 did
    assert np.array_equal(other.array("means.npy"), values)
    data = bytearray((one.path / "means.npy").read_bytes())
    data[-40] ^= 1
    (one.path / "means.npy").write_bytes(data)
    assert one.array("means.npy") is None
