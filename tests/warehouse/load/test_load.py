"""From part files to tables: every value in its column, every unit once, every bad part named."""

import hashlib
import itertools
import json
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.loader import loaded_units
from selfrepair.warehouse.load.registry import NO_COLUMNS
from selfrepair.warehouse.load.units import CheckedUnit, by_head
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import CrosscheckCell
from selfrepair.warehouse.schema import ABLATIONS, EFFECTS
from selfrepair.warehouse.schema.tables import metadata
from selfrepair.warehouse.verify.verification import verify
from support.loaded import load_rows as load
from support.tiers import examples


@pytest.fixture
def run(fabricate):
    return fabricate(post_norms=True)


def stored(ask, table: str, order: str) -> dict[str, list]:
    names = list(metadata.tables[table].columns.keys())
    rows = ask(f"SELECT {', '.join(names)} FROM {table} ORDER BY {order}")
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def all_rows(db: Path) -> dict[str, list[tuple]]:
    """Everything that does not depend on when it was loaded."""
    skipped = {"units": "EXCLUDE (loaded_at, measured_at, manifest_sha256)", "runs": "EXCLUDE (finished_at)"}
    with duckdb.connect(str(db), read_only=True) as con:
        return {
            table: con.execute(f"SELECT * {skipped.get(table, '')} FROM {table} ORDER BY ALL").fetchall()
            for table in metadata.tables
            if table != "schema_migration"
        }


def test_no_two_columns_of_the_fabricated_run_hold_the_same(run, root, db, ask):
    """Otherwise the tests below could not tell when columns are swapped."""
    run.write(root)
    load(db, root)
    for table in ("models", "datasets", "runs", "units", "measurements", "tokens", "prompts", "crosschecks"):
        found = stored(ask, table, "ALL")
        shared = ("run_id", "model_id", "dataset_id")
        if table == "tokens":
            shared += ("foil",)  # as empty as foil_id: this run asks for the next token
        if table == "runs":
            shared += ("run_name", "note", "tags")  # nobody gave any
        own = {name: values for name, values in found.items() if name not in shared}
        assert len({str(values) for values in own.values()}) == len(own), table


def test_every_value_arrives_in_its_column(run, root, db, ask):
    run.write(root)
    load(db, root)
    for table in ("measurements", "tokens", "prompts"):
        order = "run_id, prompt_id" if table == "prompts" else "run_id, prompt_id, pos"
        order += ", layer, head, ablation" if table == "measurements" else ""
        found = stored(ask, table, order)
        assert set(found.pop("run_id")) == {1}
        given_rows = _rows_given(run, table)
        for name, values in found.items():
            if name in EFFECTS:
                assert values == pytest.approx(given_rows[name], abs=0.51e-4), name
            elif name.startswith("clean_"):
                assert values == pytest.approx(given_rows[name], rel=1e-6), name
            else:
                assert values == given_rows[name], name


def _rows_given(run, table: str) -> dict[str, list]:
    units = [getattr(unit, table) for unit in run.units]
    columns = {name: [value for unit in units for value in _plain(unit[name])] for name in units[0]}
    if table == "prompts":
        return columns
    keys = ["prompt_id", "pos"] + (["layer", "head", "ablation"] if table == "measurements" else [])
    order = sorted(range(len(columns["pos"])), key=lambda i: tuple(columns[key][i] for key in keys))
    columns = {name: [values[i] for i in order] for name, values in columns.items()}
    if table == "measurements":
        columns["ablation"] = [ABLATIONS[code] for code in columns["ablation"]]
    return columns


def _plain(values) -> list:
    return values.tolist() if isinstance(values, np.ndarray) else values


def test_the_run_its_model_and_dataset_arrive(run, root, db, ask):
    run.write(root)
    load(db, root)
    found = {name: values[0] for name, values in stored(ask, "runs", "run_id").items()}
    expected = {name: value for name, value in vars(run.record).items() if name not in NO_COLUMNS}
    for name in ("ablations", "given_heads", "selected_heads", "mechanisms"):
        expected[name] = list(expected[name])
    measured_at = ask("SELECT max(measured_at) FROM units")[0][0]
    assert found == {
        **expected,
        "run_id": 1,
        "model_id": 1,
        "dataset_id": 1,
        "status": "complete",
        "finished_at": measured_at,
        "identity_error_max": 1.25e-5,
        "crosscheck_error_max": 3.5e-5,
        "crosscheck_rows": 12,
        "note": None,
        "tags": None,
    }
    assert {name: values[0] for name, values in stored(ask, "models", "model_id").items()} == {
        "model_id": 1,
        **vars(run.record.model),
    }
    assert {name: values[0] for name, values in stored(ask, "datasets", "dataset_id").items()} == {
        "dataset_id": 1,
        **vars(run.record.dataset),
    }


def test_the_ledger_and_the_crosschecks_arrive(run, root, db, ask):
    parts = replace(run, units=[run.units[0], replace(run.units[1], document_id=72)]).write(root)
    manifests = [(parts.unit_path(unit) / "manifest.json").read_bytes() for unit in (0, 1)]
    load(db, root, keep_parts=True)
    found = stored(ask, "units", "unit")
    now = datetime.now(UTC).replace(tzinfo=None)
    assert [abs((at - now).total_seconds()) < 3600 for at in found.pop("loaded_at")] == [True, True]
    assert [at.isoformat() for at in found.pop("measured_at")] == [
        json.loads(text)["measured_at"] for text in manifests
    ]
    assert found.pop("manifest_sha256") == [hashlib.sha256(text).hexdigest() for text in manifests]
    assert found == {
        "run_id": [1, 1],
        "unit": [0, 1],
        "first_prompt": [0, 3],
        "n_prompts": [3, 3],
        "n_measurements": [432, 432],
        "identity_error_max": [0.625e-5, 1.25e-5],
        "host": ["abacus", "abacus"],
        "device": ["beads:1", "beads:1"],
        "worker": ["abacus:100", "abacus:101"],
        "seconds": [2.5, 3.5],
        "document_id": [None, 72],
    }
    assert ask("SELECT * EXCLUDE (run_id) FROM crosschecks ORDER BY prompt_id") == [
        (0, 0, 1, "resample", 4, 3.5e-5),
        (3, 1, 3, "zero", 4, 0.875e-5),
        (5, 2, 2, "zero", 4, 1.75e-5),
    ]


def test_the_report_and_what_is_left_of_the_parts(run, root, db):
    run.write(root)
    report = load(db, root)
    assert (report.rows, report.units, report.crosschecks, report.runs) == (864, 2, 3, ["run-a"])
    assert report.bytes > 864
    assert not root.exists()


def test_kept_parts_are_loaded_once(run, root, db):
    run.write(root)
    load(db, root, keep_parts=True)
    before = all_rows(db)
    report = load(db, root, keep_parts=True)
    assert (report.rows, report.units, report.crosschecks) == (0, 0, 0)
    assert all_rows(db) == before
    assert PartsFolder(root, "run-a").finished_units() == {0, 1}
    load(db, root)
    assert not root.exists()
    assert all_rows(db) == before


def test_units_may_come_in_any_order_and_the_run_is_running_until_all_are_there(run, root, db, ask):
    parts = run.write(root, units=[1], crosscheck=False)
    load(db, root)
    assert ask("SELECT status, finished_at, identity_error_max FROM runs") == [("incomplete", None, 1.25e-5)]
    assert loaded_units(db, "run-a") == {1}
    assert (parts.path / "run.json").exists()  # somebody may be measuring unit 0 just now
    run.write(root, units=[0], crosscheck=False)
    load(db, root)
    assert ask("SELECT status, finished_at IS NULL FROM runs") == [("incomplete", False)]
    parts.write_crosscheck(0, 1, run.cells)
    load(db, root)
    assert ask("SELECT status FROM runs") == [("complete",)]
    assert not root.exists()
    assert all(check.ok for check in verify(db))


def test_a_crosscheck_beyond_tolerance_fails_the_run(run, root, db, ask):
    parts = run.write(root, crosscheck=False)
    parts.write_crosscheck(0, 1, [run.cells[0], CrosscheckCell(1, 0, 0, "mean", 4, 2.1e-3)])
    load(db, root)
    assert ask("SELECT status, crosscheck_error_max, crosscheck_rows FROM runs") == [("failed", 2.1e-3, 8)]


def test_the_same_crosscheck_twice_counts_once(run, root, db, ask):
    parts = run.write(root)
    parts.write_crosscheck(0, 2, run.cells)
    assert load(db, root).crosschecks == 3
    assert ask("SELECT count(*) FROM crosschecks") == [(3,)]


def test_runs_share_models_and_datasets(fabricate, root, db, ask):
    fabricate("run-a").write(root)
    fabricate("run-b", ablations=("mean",)).write(root)
    fabricate("run-c", model="other-model").write(root)
    fabricate("run-d", seed=12).write(root)
    run = fabricate("run-e")
    model = replace(run.record.model, config_sha256="other configuration")  # the same weights, other numbers
    replace(run, record=replace(run.record, model=model)).write(root)
    assert load(db, root).runs == ["run-a", "run-b", "run-c", "run-d", "run-e"]
    assert ask("SELECT run_id, run_key, model_id, dataset_id FROM runs ORDER BY 1") == [
        (1, "run-a", 1, 1),
        (2, "run-b", 1, 1),
        (3, "run-c", 2, 1),
        (4, "run-d", 1, 2),
        (5, "run-e", 3, 1),
    ]
    assert ask("SELECT count(*) FROM prompts WHERE partner_id IS NULL") == [(6,)]
    assert all(check.ok for check in verify(db))


def test_a_model_without_revision_or_checkpoint_is_still_one_model(fabricate, root, db, ask):
    for key in ("run-a", "run-b"):
        run = fabricate(key)
        model = replace(run.record.model, revision=None, checkpoint=None)
        dataset = replace(run.record.dataset, split=None, revision=None)
        replace(run, record=replace(run.record, model=model, dataset=dataset)).write(root)
    load(db, root)
    assert ask("SELECT model_id, dataset_id FROM runs") == [(1, 1), (1, 1)]


def test_one_run_can_be_loaded_alone(fabricate, root, db, ask):
    fabricate("run-a").write(root)
    fabricate("run-b").write(root)
    assert load(db, root, run_key="run-b").runs == ["run-b"]
    assert ask("SELECT run_key FROM runs") == [("run-b",)]
    assert PartsFolder(root, "run-a").finished_units() == {0, 1}


def test_loaded_units_of_what_is_not_there(run, root, db):
    assert loaded_units(db, "run-a") == set()
    run.write(root, units=[0])
    load(db, root)
    assert loaded_units(db, "run-a") == {0}
    assert loaded_units(db, "run-b") == set()


@pytest.mark.slow
def test_small_units_fill_row_groups_and_leave_no_empty_blocks(fabricate, root, db, ask):
    fabricate(n_units=12, prompts_per_unit=8, seq_len=65, n_layers=4, n_heads=4).write(root)
    rows = load(db, root, after_load=True).rows
    groups = ask("SELECT count(DISTINCT row_group_id) FROM pragma_storage_info('measurements')")
    assert groups == [(-(-rows // 122_880),)]
    assert ask("SELECT free_blocks FROM pragma_database_size()") == [(0,)]


def test_a_folders_name_is_no_pattern(run, tmp_path, db, ask):
    root = tmp_path / "run*[0-9]?" / "pos=3"
    run.write(root)
    assert load(db, root).rows == 864
    assert ask("SELECT min(pos), max(pos) FROM measurements") == [(0, 3)]


def test_no_folder_of_parts(db, root):
    with pytest.raises(SelfRepairError, match=r"no folder of parts at .*w\.duckdb\.parts, .*selfrepair ingest makes"):
        load(db, root)
    assert not db.exists()


def test_a_load_without_parts_brings_the_warehouse_up_to_date(db, root, ask):
    duckdb.connect(str(db)).close()
    assert load(db, root).units == 0
    assert ask("SELECT count(*) FROM runs") == [(0,)]


def test_parts_of_another_cut_of_the_same_run_are_refused(fabricate, root, tmp_path, db):
    fabricate(n_units=2).write(root)
    load(db, root)
    fabricate(n_units=3).write(tmp_path / "more")
    with pytest.raises(SelfRepairError, match="is in this warehouse with n_prompts = 6, and its parts say 9"):
        load(db, tmp_path / "more")


def test_entry_points_are_called_with_the_closed_warehouse(run, root, db, ask, tmp_path, monkeypatch):
    plugin = tmp_path / "plugin"
    (plugin / "plugin-1.0.dist-info").mkdir(parents=True)
    (plugin / "plugin-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (plugin / "plugin-1.0.dist-info" / "entry_points.txt").write_text("[selfrepair.after_load]\nnote = plugin:note\n")
    (plugin / "plugin.py").write_text(
        "import duckdb\n\ndef note(db, wait_s, on_wait):\n    with duckdb.connect(db) as con:\n"
        "        con.execute('CREATE TABLE noted AS SELECT count(*) AS n FROM measurements')\n"
    )
    monkeypatch.syspath_prepend(plugin)
    run.write(root)
    load(db, root, after_load=True)
    assert ask("FROM noted") == [(864,)]


def test_a_loaded_file_is_checkpointed(run, root, db):
    run.write(root)
    load(db, root)
    assert [path.name for path in db.parent.iterdir()] == [db.name]


@settings(examples(3, 8), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    effects=st.lists(st.floats(-500, 500, width=32), min_size=8, max_size=8),
    text=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_number_and_any_text_comes_back(fabricate, effects, text):
    run = fabricate(n_units=1, prompts_per_unit=2, seq_len=2, n_layers=1, n_heads=4, ablations=("zero",))
    unit = run.units[0]
    unit.measurements["logit_change"] = np.array(effects, np.float32)
    unit.tokens["token"] = [text, text * 2]
    unit.prompts["text"] = [text * 3, ""]
    with tempfile.TemporaryDirectory() as folder:
        db = Path(folder) / "w.duckdb"
        run.write(Path(folder) / "parts", crosscheck=False)
        load(db, Path(folder) / "parts")
        with duckdb.connect(str(db), read_only=True) as con:
            found = con.execute("SELECT logit_change FROM measurements ORDER BY layer, head, prompt_id").fetchall()
            for (value,), effect in zip(found, effects, strict=True):
                assert abs(value - effect) <= 0.5e-4 + 2e-7 * abs(effect)
            assert con.execute("SELECT token FROM tokens ORDER BY prompt_id").fetchall() == [(text,), (text * 2,)]
            assert con.execute("SELECT text FROM prompts ORDER BY prompt_id").fetchall() == [(text * 3,), ("",)]


def test_a_load_waits_for_a_reader_of_the_warehouse(run, root, db, spawn):
    with open_writer(db):
        pass
    reader = spawn(
        "import sys, duckdb\n"
        "with duckdb.connect(sys.argv[1], read_only=True):\n    print('open', flush=True)\n    sys.stdin.readline()",
        db,
    )
    assert reader.stdout.readline() == "open\n"
    run.write(root)
    with pytest.raises(SelfRepairError, match=rf"in use by process {reader.pid}"):
        load(db, root, wait_s=0)
    assert PartsFolder(root, "run-a").finished_units() == {0, 1}

    def release(_text: str) -> None:
        reader.stdin.write("\n")
        reader.stdin.flush()

    assert load(db, root, wait_s=30, on_wait=release).units == 2


def test_units_that_are_loaded_together_are_laid_out_by_head(run, root, db, ask):
    run.write(root)
    load(db, root)
    heads = ask("SELECT layer, head FROM measurements")
    assert [head for head, _ in itertools.groupby(heads)] == sorted(set(heads))


def test_a_unit_whose_rows_are_in_no_order_loses_none(run, root):
    parts = run.write(root)
    paths = [parts.unit_path(number) for number in (0, 1)]
    whole = pa.concat_tables([pq.read_table(path / "measurements.parquet") for path in paths])
    shuffled = pq.read_table(paths[0] / "measurements.parquet")
    shuffled = shuffled.take(np.random.default_rng(5).permutation(shuffled.num_rows))
    pq.write_table(shuffled, paths[0] / "measurements.parquet")
    found = by_head([CheckedUnit(path, None, "") for path in paths])
    assert found.select(["layer", "head"]).to_pylist() == sorted(
        found.select(["layer", "head"]).to_pylist(), key=lambda row: (row["layer"], row["head"])
    )
    in_order = [(name, "ascending") for name in ("layer", "head", "ablation", "prompt_id", "pos")]
    plain = found.set_column(0, "ablation", found["ablation"].cast(pa.string()))
    assert plain.sort_by(in_order).to_pylist() == whole.sort_by(in_order).to_pylist()
