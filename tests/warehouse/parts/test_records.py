import hashlib
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.crosschecks import read_cells
from selfrepair.warehouse.parts.manifest import Manifest
from selfrepair.warehouse.parts.records import DatasetRecord, ModelRecord, RunRecord
from selfrepair.warehouse.schema import MECHANISMS
from selfrepair.warehouse.schema.tables import metadata

texts = st.text()
heads = st.lists(st.from_regex(r"L\d{1,2}H\d{1,2}", fullmatch=True)).map(tuple)
numbers = st.integers(0, 2**60)
records = st.builds(
    RunRecord,
    run_key=texts,
    model=st.builds(ModelRecord),
    dataset=st.builds(DatasetRecord),
    ablations=st.lists(texts).map(tuple),
    given_heads=heads,
    selected_heads=heads,
    mechanisms=st.lists(st.sampled_from(MECHANISMS), unique=True).map(tuple),
    crosscheck_tolerance=st.floats(0, 1),
    software=st.dictionaries(texts, texts),
    started_at=st.datetimes(datetime(2000, 1, 1)),
)


@given(records)
def test_a_run_comes_back_from_its_json(run):
    assert RunRecord.from_json(run.to_json()) == run


def test_a_record_from_before_post_norms_is_one_without_them_and_has_the_same_stamp(fabricate):
    run = fabricate().record
    before = json.loads(run.to_json())
    del before["model"]["post_norms"]
    assert RunRecord.from_json(json.dumps(before)) == run
    no_part = ("device", "software", "started_at", "command", "checks", "run_name")
    lasting = {name: value for name, value in before.items() if name not in no_part}
    lasting["n_crosschecks"] = min(64, run.n_prompts * len(run.selected_heads) * len(run.ablations))
    assert run.stamp().record_sha256 == hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()
    assert fabricate(post_norms=True).record.stamp() != run.stamp()


def test_the_fields_are_the_tables_columns(fabricate):
    run = fabricate().record
    tables = metadata.tables
    assert ["model_id", *vars(run.model)] == list(tables["models"].columns.keys())
    assert ["dataset_id", *vars(run.dataset)] == list(tables["datasets"].columns.keys())
    known_later = {
        *("run_id", "model_id", "dataset_id", "status", "finished_at"),
        *("identity_error_max", "crosscheck_error_max", "crosscheck_rows", "note", "tags"),
    }
    assert set(vars(run)) - {"model", "dataset", "tokenizer_sha256"} == set(tables["runs"].columns.keys()) - known_later


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("seed"), "RunRecord: seed missing or unknown"),
        (lambda found: found.update(colour="red"), "RunRecord: colour missing or unknown"),
        (lambda found: found["model"].pop("d_mlp"), "ModelRecord: d_mlp missing or unknown"),
        (lambda found: found.update(dataset=7), "fields of a DatasetRecord;"),
    ],
)
def test_another_versions_record_is_refused(fabricate, change, message):
    found = json.loads(fabricate().record.to_json())
    change(found)
    with pytest.raises(SelfRepairError, match=f"{message}.*another version of selfrepair wrote it"):
        RunRecord.from_json(json.dumps(found))


def test_text_that_is_no_json_is_refused():
    for text in ("{", "[" * 100_000):
        with pytest.raises(SelfRepairError, match="is not JSON"):
            RunRecord.from_json(text)


def test_files_that_are_nested_too_deeply_are_none_of_ours(tmp_path):
    deep = tmp_path / "crosscheck.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(SelfRepairError, match="cannot be read as a list of cells"):
        read_cells(deep, None)
    with pytest.raises(ValueError, match="nested too deeply"):
        Manifest.from_json('{"unit": ' + "[" * 100_000)
