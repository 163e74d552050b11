"""Layers of a model on two devices give the numbers of one, and what was not moved to the other device fails."""

from contextlib import nullcontext
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models import loading
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.models.placement import spread as placement
from selfrepair.ingest.models.placement.spread import check_spread, shared_layers, spread
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.selection import Shard
from selfrepair.ingest.runs import requested
from selfrepair.ingest.runs.runner import measure_run
from selfrepair.warehouse.errors import SelfRepairError
from support import sweep, tiny
from support.two_devices import FIRST, SECOND, two_devices


class Silent:
    def stage(self, text, total=None, done=0): ...

    def advance(self, amount): ...

    def note(self, text): ...


def on_two(case):
    model = sweep.build(case)
    with two_devices() as devices:
        spread(model, case, devices)
        return adapt(model, case)


@pytest.mark.parametrize("case", ["gemma2", "mixtral", "lfm2"])
def test_numbers_are_those_of_one_device(case):
    """Of post-norms and a soft-cap, experts, and layers without heads."""
    one, two = adapt(sweep.build(case), case), on_two(case)
    with two_devices():
        check_spread(two, case)
        sweep.prove(two)
        found, again = sweep.measured(two), sweep.expected(two).cpu()
    assert two.devices == [FIRST, SECOND]
    assert torch.equal(found, sweep.measured(one))
    torch.testing.assert_close(again, sweep.expected(one), rtol=0, atol=1e-9)


def test_a_stream_that_is_not_moved_fails():
    two = on_two("llama")
    forgetful = replace(two, blocks=tuple(replace(block, device=FIRST) for block in two.blocks))
    with two_devices(), pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
        sweep.measured(forgetful)


def test_a_whole_run_with_every_mechanism_is_the_same(tmp_path, monkeypatch):
    model, texts = tiny.save(tmp_path / "model"), tiny.write_texts(tmp_path / "texts.jsonl")
    request = IngestRequest(
        model=str(model),
        dataset=str(texts),
        n_prompts=2,
        seq_len=5,
        ablation="resample,mean",
        heads="L0H1,L2H3",
        mechanisms=True,
        neurons="all",
        crosscheck=2,
    )

    def tables(parts, places):
        with places as devices:
            monkeypatch.setattr(requested, "choose_devices_of_one", lambda *_: list(devices))
            plan = requested.make_plan(request)
            measure_run(plan, parts, tmp_path / "no.duckdb", shard=Shard(1, 1), batch_size=64, progress=Silent())
        files = (parts / plan.record.run_key).rglob("*.parquet")
        return plan, {file.name: pq.read_table(file).to_pandas() for file in files}

    of_one, expected = tables(tmp_path / "one", nullcontext([torch.device("cpu")]))
    of_two, found = tables(tmp_path / "two", two_devices())
    assert (of_two.model.adapter.device_names, of_two.model.adapter.device) == ("lazy:0+lazy:1", FIRST)  # it is tied
    assert of_two.record.run_key == of_one.record.run_key
    assert found.keys() == expected.keys()
    assert found["measurements.parquet"].equals(expected["measurements.parquet"])
    for name, table in expected.items():
        for column in table.select_dtypes("number"):
            torch.testing.assert_close(
                torch.tensor(found[name][column].to_numpy(float)),
                torch.tensor(table[column].to_numpy(float)),
                rtol=1e-6,
                atol=1e-6,
                equal_nan=True,
            )


@pytest.mark.parametrize(
    ("sizes", "others", "room", "expected"),
    [
        ([1, 1, 1, 1], [0, 0], [None, None], [0, 0, 1, 1]),
        ([1, 1, 1, 1], [2, 0], [None, None], [0, 1, 1, 1]),  # a large embedding
        ([1, 1, 1, 1], [0, 0], [30, 10], [0, 0, 0, 1]),
        ([2, 2, 2, 2, 2], [1, 0, 3], [20, 20, 20], [0, 0, 1, 1, 2]),
    ],
)
def test_devices_are_as_full_as_each_other(sizes, others, room, expected):
    assert shared_layers(sizes, others, room) == expected


def test_weights_that_do_not_fit_are_refused_with_their_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "free_bytes", lambda device: 1000)
    message = (
        r"model 'llama' does not fit on these devices: its weights are 0.0 GB, free are 0.0 GB on lazy:0, 0.0 GB on"
    )
    with pytest.raises(SelfRepairError, match=message):
        spread(sweep.build("llama"), "llama", [FIRST, SECOND])
    monkeypatch.setattr(loading, "free_bytes", lambda device: 0)
    with pytest.raises(
        SelfRepairError, match=r"memory of cpu \(its weights are 0.0 GB, and 0.0 GB are free\). Try --dtype"
    ):
        loading.load_model(str(tiny.save(tmp_path / "m")), precision=PRECISIONS["float32"], device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("case", "n", "message"),
    [
        ("llama", 3, r"model 'llama' has 2 layers, which 3 devices cannot share"),
        ("gemma4_text", 2, r"its layers read keys and values of another layer, so that its layers cannot be spread"),
    ],
)
def test_what_cannot_be_spread_is_refused(case, n, message):
    with pytest.raises(SelfRepairError, match=message):
        spread(sweep.build(case), case, [FIRST] * n)
