"""Which processes `--devices` starts, and what is refused before torch loads any weights."""

import sys
from types import SimpleNamespace

import pytest

from selfrepair.ingest.fleet.processes import _cpu_threads
from selfrepair.ingest.request import devices
from selfrepair.ingest.request.devices import choose_devices, choose_devices_of_one, parse_devices
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.validation import check_request
from selfrepair.warehouse.errors import SelfRepairError


@pytest.mark.parametrize(
    ("text", "names", "kinds"),
    [
        ("cuda:0,cuda:3", ["cuda:0", "cuda:3"], ["cuda:0", "cuda:3"]),
        ("cpu", ["cpu"], ["cpu"]),
        ("cpu:1", ["cpu"], ["cpu"]),
        ("cpu:2", ["cpu 1 of 2", "cpu 2 of 2"], ["cpu", "cpu"]),
        ("cuda:1, cpu", ["cuda:1", "cpu"], ["cuda:1", "cpu"]),
        ("mps", ["mps"], ["mps"]),
        ("cuda:0+cuda:01,cuda:2 + cuda:3", ["cuda:0+cuda:1", "cuda:2+cuda:3"], ["cuda:0+cuda:1", "cuda:2+cuda:3"]),
    ],
)
def test_each_device_has_a_process_of_a_name_of_its_own(text, names, kinds):
    found = parse_devices(text)
    assert [one.name for one in found] == names
    assert [one.device for one in found] == kinds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuda", "cuda is no device. Write all, or GPUs by number such as cuda:0,cuda:3"),
        ("cpu:0", "cpu:0 is no device"),
        ("cuda:0,,cuda:1", "nothing is no device"),
        ("all,cpu", "all is no device"),
        ("gpu", "gpu is no device"),
        ("cuda:1,cuda:01", "names a device twice"),
        ("cpu,cpu:2", "names a device twice"),
        ("mps,mps", "names a device twice"),
        ("cuda:0+cuda:0", "names a device twice"),
        ("cuda:0+cuda:1,cuda:1", "names a device twice"),
        ("cuda:0+cpu", r"cuda:0\+cpu: the layers of a model are shared by GPUs of this machine, by number"),
    ],
)
def test_what_names_no_device_or_one_twice_is_refused(text, message):
    with pytest.raises(SelfRepairError, match=message):
        check_request(IngestRequest(model="demo", devices=text))


@pytest.mark.parametrize(("other", "option"), [({"shard": "1/2"}, "--shard"), ({"device": "cpu"}, "--device")])
def test_another_way_to_share_a_run_or_name_a_device_is_refused(other, option):
    with pytest.raises(SelfRepairError, match=f"and {option} was given as well. Leave one of them out"):
        check_request(IngestRequest(model="demo", devices="cpu:2", **other))


def test_devices_that_the_machine_lacks_are_refused_and_all_is_then_the_cpu(monkeypatch):
    monkeypatch.setattr(devices, "_may_have_cuda", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert [one.name for one in choose_devices("all", "float32")] == ["cpu"]
    with pytest.raises(SelfRepairError, match=r"--devices cuda:0 is not on this machine .*Use --devices all"):
        choose_devices("cuda:0", "float32")
    with pytest.raises(SelfRepairError, match="--dtype tf32 needs an NVIDIA GPU"):
        choose_devices("cpu:2", "tf32")


def test_all_is_every_gpu(monkeypatch):
    cuda = SimpleNamespace(device_count=lambda: 3, is_available=lambda: True)
    mps = SimpleNamespace(is_available=lambda: False)
    torch = SimpleNamespace(
        cuda=cuda,
        backends=SimpleNamespace(mps=mps),
        device=lambda name: SimpleNamespace(type="cuda", index=int(name[5:])),
    )
    monkeypatch.setattr(devices, "_may_have_cuda", lambda: True)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert [one.device for one in choose_devices("all", "tf32")] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [one.device for one in choose_devices("cuda:2", "tf32")] == ["cuda:2"]
    assert [one.device for one in choose_devices("cuda:0+cuda:1,cuda:2", "tf32")] == ["cuda:0+cuda:1", "cuda:2"]
    assert [one.index for one in choose_devices_of_one("cuda:0+cuda:2")] == [0, 2]
    with pytest.raises(SelfRepairError, match="--devices cuda:3 is not on this machine, which has 3, counted from 0"):
        choose_devices("cuda:1+cuda:3", "float32")
    with pytest.raises(SelfRepairError, match="--devices cuda:3 is not on this machine, which has 3, counted from 0"):
        choose_devices("cuda:1,cuda:3", "float32")


def test_the_recorded_command_names_neither_devices_nor_shard():
    assert IngestRequest(model="demo", devices="cpu:2").command() == IngestRequest(model="demo").command()
    assert IngestRequest(model="demo", shard="1/2").command() == "selfrepair ingest --model demo"


def test_processes_on_the_cpu_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda of: set(range(8)), raising=False)
    four = parse_devices("cpu:4")
    assert [_cpu_threads(one, four) for one in four] == [2, 2, 2, 2]
    mixed = parse_devices("cuda:0,cpu")
    assert [_cpu_threads(one, mixed) for one in mixed] == [None, 8]
    many = parse_devices("cpu:20")
    assert {_cpu_threads(one, many) for one in many} == {1}
