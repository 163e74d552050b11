"""Parts that cannot be loaded: each is named with the next step, and all the others arrive."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.verify.verification import verify
from support.loaded import load_rows as load


@pytest.fixture
def run(fabricate):
    return fabricate()


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[:-10])
    elif how == "altered":
        path.write_bytes(data[:40] + bytes([data[40] ^ 1]) + data[41:])
    elif how == "gone":
        path.unlink()
    else:
        path.write_text(how)


@pytest.mark.parametrize(
    ("name", "how", "message"),
    [
        ("measurements.parquet", "cut", r"is [\d,]+ bytes long and was written with [\d,]+"),
        ("tokens.parquet", "altered", "was altered after it was written"),
        ("prompts.parquet", "gone", "cannot be read: No such file"),
        ("manifest.json", "{", "cannot be read as a manifest"),
        ("manifest.json", "[]", "cannot be read as a manifest"),
        ("manifest.json", '{"unit": 0, "files": {}}', "cannot be read as a manifest"),
    ],
)
def test_a_damaged_unit_is_named_and_the_others_are_loaded(fabricate, root, db, ask, name, how, message):
    run = fabricate(n_units=3)
    parts = run.write(root)
    damage(parts.unit_path(1) / name, how)
    with pytest.raises(SelfRepairError) as raised:
        load(db, root)
    text = str(raised.value)
    assert str(parts.unit_path(1) / name) in text
    assert re.search(message, text)
    assert f"Delete the folder {parts.unit_path(1)} and run the ingest command that made it again" in text
    assert "Everything else was loaded: 2 units, 864 rows." in text
    assert loaded_units(db, "run-a") == {0, 2}
    assert ask("SELECT count(*), count(DISTINCT prompt_id) FROM measurements") == [(864, 6)]
    assert parts.finished_units() == {1}

    for path in parts.unit_path(1).iterdir():
        path.unlink()
    parts.unit_path(1).rmdir()
    run.write(root, units=[1], crosscheck=False)
    load(db, root)
    assert ask("SELECT status FROM runs") == [("complete",)]
    assert all(check.ok for check in verify(db))


def test_a_unit_that_breaks_the_tables_rules_is_named_and_the_others_are_loaded(fabricate, root, db):
    run = fabricate(n_units=3)
    run.units[1].tokens["clean_rank"][2] = 0
    parts = run.write(root)
    with pytest.raises(SelfRepairError, match=r"unit-00001 does not fit the tables: .*clean_rank"):
        load(db, root)
    assert loaded_units(db, "run-a") == {0, 2}
    assert parts.finished_units() == {1}


def test_a_unit_under_another_number_is_refused(run, root, db):
    parts = run.write(root, units=[0])
    parts.unit_path(0).rename(parts.unit_path(1))
    with pytest.raises(SelfRepairError, match=r"unit-00001/manifest\.json is of unit 0"):
        load(db, root)


def test_an_altered_crosscheck_is_named(run, root, db, ask):
    parts = run.write(root)
    parts.crosscheck_path(0, 1).write_text('[{"prompt_id": 0}]')
    with pytest.raises(SelfRepairError, match=r"crosscheck-0-of-1\.json does not fit .*list of cells.*Delete it"):
        load(db, root)
    assert ask("SELECT status FROM runs") == [("incomplete",)]


def test_a_run_without_its_record_does_not_stop_the_others(fabricate, root, db):
    broken = fabricate("run-a").write(root)
    (broken.path / "run.json").unlink()
    fabricate("run-b").write(root)
    with pytest.raises(SelfRepairError, match=r"run\.json cannot be read .*Run the ingest command"):
        load(db, root)
    assert loaded_units(db, "run-b") == {0, 1}
    assert broken.finished_units() == {0, 1}


def test_a_record_that_breaks_the_tables_rules_is_named(run, root, db):
    model = replace(run.record.model, norm="batchnorm")
    replace(run, record=replace(run.record, model=model)).write(root)
    with pytest.raises(SelfRepairError, match=r"run run-a breaks a rule of the tables: .*batchnorm|norm"):
        load(db, root)


@pytest.mark.parametrize("error", [MemoryError("no room"), PermissionError(13, "Permission denied")])
def test_what_is_not_a_units_fault_ends_the_load_and_blames_none(run, root, db, ask, monkeypatch, error):
    parts = run.write(root)

    def fail(units):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("selfrepair.warehouse.load.loader.by_head", fail)
        with pytest.raises(SelfRepairError, match="their files are kept") as told:
            load(db, root)
    assert "Delete" not in str(told.value)
    assert parts.finished_units() == {0, 1}
    assert load(db, root).units == 2
