"""What goes into a part file: types, rounding, and what is refused."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.arrow import parquet_bytes, part_schema, part_table
from selfrepair.warehouse.schema import EFFECT_STEP, EFFECTS


def effects(values) -> dict[str, np.ndarray]:
    n = len(values)
    keys = {name: np.zeros(n, np.int32) for name in ("ablation", "prompt_id", "pos", "layer", "head")}
    return {**keys, **{name: np.asarray(values, np.float32) for name in EFFECTS}}


def rounded(values) -> np.ndarray:
    return np.asarray(part_table("measurements", effects(values))["logit_change"])


def test_effects_are_rounded_to_the_step():
    assert rounded([0.12344, 0.12346, -2.00004, 7]).tolist() == pytest.approx([0.1234, 0.1235, -2.0, 7.0], abs=1e-7)


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=50))
def test_rounding_moves_a_value_by_half_a_step_at_most_and_only_once(values):
    once = rounded(values)
    float_noise = np.spacing(np.abs(np.asarray(values, np.float32))) * 2
    assert (np.abs(once - np.asarray(values, np.float64)) <= EFFECT_STEP / 2 + float_noise).all()
    assert rounded(once).tolist() == once.tolist()


def test_large_values_stay_the_nearest_float():
    assert rounded([537.5, -20.1234, 1e30]).tolist() == np.float32([537.5, -20.1234, 1e30]).tolist()


def test_there_is_no_negative_zero():
    assert np.signbit(rounded([-0.00001, -0.0, 0.0])).tolist() == [False, False, False]


def test_rounded_effects_take_the_space_of_decimals(tmp_path):
    values = np.random.default_rng(3).normal(0, 0.5, 200_000).astype(np.float32)
    table = part_table("measurements", effects(values))
    with duckdb.connect(str(tmp_path / "c.duckdb")) as con:
        con.register("raw_values", pa.table({"x": values}))
        con.register("part", table)
        con.execute("CREATE TABLE rounded AS SELECT logit_change AS x FROM part; CREATE TABLE raw AS FROM raw_values")
        con.execute("CHECKPOINT")
        compressions = {
            name: {row[0] for row in con.execute(_COMPRESSION.format(name=name)).fetchall()}
            for name in ("rounded", "raw")
        }
    assert compressions == {"rounded": {"ALP"}, "raw": {"ALPRD"}}


_COMPRESSION = "SELECT compression FROM pragma_storage_info('{name}') WHERE segment_type = 'FLOAT'"


def test_the_types_are_the_tables(fabricate):
    unit = fabricate().units[0]
    table = part_table("measurements", unit.measurements)
    assert table.schema == part_schema("measurements")
    assert str(table.schema.field("ablation").type) == "dictionary<values=string, indices=int8, ordered=0>"
    assert [str(table.schema.field(name).type) for name in ("prompt_id", "pos", "layer", "head")] == [
        *("int32", "int16", "int16", "int16")
    ]
    assert table.schema.field("direct_effect").type == pa.float32()
    assert str(part_schema("prompts").field("token_ids").type) == "list<item: int32>"


def test_a_part_file_reads_back_as_it_was(fabricate):
    unit = fabricate().units[0]
    for name, columns in (("measurements", unit.measurements), ("tokens", unit.tokens), ("prompts", unit.prompts)):
        table = part_table(name, columns)
        assert pq.read_table(pa.BufferReader(parquet_bytes(table))).to_pylist() == table.to_pylist()


@pytest.mark.parametrize("given_as", [list, pa.array, lambda names: pa.array(names).dictionary_encode()])
def test_ablations_may_be_given_by_name(given_as):
    columns = {**effects([1.0, 2.0, 3.0]), "ablation": given_as(["zero", "resample", "mean"])}
    assert part_table("measurements", columns)["ablation"].to_pylist() == ["zero", "resample", "mean"]


def test_ablations_may_be_given_by_code_and_tables_as_arrow():
    columns = {**effects([1.0, 2.0, 3.0]), "ablation": np.array([2, 0, 1])}
    arrow = pa.table({name: pa.array(values) for name, values in columns.items()})
    for given_as in (columns, arrow, pa.concat_tables([arrow.slice(0, 1), arrow.slice(1)])):
        assert part_table("measurements", given_as)["ablation"].to_pylist() == ["zero", "resample", "mean"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logit_change": [0.5, float("nan")]}, r"logit_change has 1 values of 2 that are not finite.*--dtype float32"),
        ({"ln_scale_ratio": [float("inf")] * 2}, r"ln_scale_ratio has 2 values of 2 that are not finite"),
        ({"direct_effect": [1.0]}, r"is inconsistent: .*length"),
        ({"direct_effect": [1.0, None]}, r"direct_effect has 1 empty values of 2"),
        ({"direct_effect": ["a", "b"]}, r"direct_effect cannot be read as float"),
        ({"pos": [0, 40_000]}, r"measurements\.pos cannot be read as int16"),
        ({"ablation": ["mean", "median"]}, r"ablation cannot be read .*'median'\] is not one of resample, mean, zero"),
        ({"ablation": [0, 3]}, r"ablation cannot be read .*Index 3 out of bounds"),
        ({"colour": [1, 2]}, r"measurements needs the columns ablation, .*it was given .*colour"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(SelfRepairError, match=message):
        part_table("measurements", {**effects([0.5, 1.5]), **change})


def test_a_missing_column_is_named():
    columns = effects([0.5])
    del columns["layer"]
    with pytest.raises(SelfRepairError, match="needs the columns ablation, prompt_id, pos, layer"):
        part_table("measurements", columns)
