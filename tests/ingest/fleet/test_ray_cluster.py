"""Where actors go, what is taken for a cluster, and which options go together: without a cluster."""

import queue
import socket
import sys
import threading
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from selfrepair.ingest.fleet import ray_cluster
from selfrepair.ingest.fleet.mailbox import Mailbox
from selfrepair.ingest.fleet.ray_cluster import RayWorker, _answers, _spots
from selfrepair.ingest.request.cluster import check_parts
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.validation import check_request
from selfrepair.warehouse.errors import SelfRepairError


def node(host: str, alive: bool = True, **resources: float) -> dict:
    return {"NodeManagerHostname": host, "NodeID": f"id of {host} {resources}", "Alive": alive, "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "cores", "spots"),
    [
        (
            [node("b", CPU=16.0, GPU=2.0), node("head", CPU=4.0), node("gone", alive=False, GPU=8.0)],
            None,
            [("b GPU 1 of 2", 1, 0, 8), ("b GPU 2 of 2", 1, 0, 8)],
        ),
        ([node("b", CPU=3.0), node("a", CPU=2.0)], None, [("a", 0, 2, None), ("b", 0, 3, None)]),
        (
            [node("b", CPU=5.0, GPU=1.0), node("a", CPU=1.0)],
            2,
            [("b CPU 1 of 2", 0, 2, None), ("b CPU 2 of 2", 0, 2, None)],
        ),
        ([node("a", CPU=1.0), node("a", CPU=2.0)], 1, ["a (node 1)", "a (node 2) CPU 1 of 2", "a (node 2) CPU 2 of 2"]),
    ],
)
def test_a_worker_has_a_gpu_or_so_many_cores(nodes, cores, spots):
    found = _spots(nodes, cores)
    told = [(one.name, one.gpus, one.cores, one.threads) for one in found]
    assert (told if isinstance(spots[0], tuple) else [one.name for one in found]) == spots


def test_a_cluster_without_room_for_a_worker_is_refused():
    with pytest.raises(
        SelfRepairError, match=r"no node of the cluster has 4 cores for a worker \(cores: a 2, head 0\)"
    ):
        _spots([node("a", CPU=2.0), node("head")], 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ray": "gpu1"}, "--ray gpu1 is no address of a cluster. Write host:port"),
        ({"ray": "http://gpu1:8265"}, "is no address of a cluster"),
        (
            {"ray": "auto", "shard": "1/2"},
            "--ray shares the run among the nodes of a cluster, and --shard was given as well",
        ),
        ({"ray": "auto", "devices": "cpu:2"}, "--ray shares .*, and --devices was given as well"),
        ({"ray": "local", "device": "cpu"}, "--ray shares .*, and --device was given as well"),
        ({"ray_cpus": 2}, "--ray-cpus gives the cores of a worker of --ray, which was not given"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(SelfRepairError, match=message):
        check_request(IngestRequest(model="demo", **given))


def test_a_bucket_is_for_ray_alone():
    check_parts("s3://bucket/folder", IngestRequest(model="demo", ray="auto"))
    check_parts("folder", IngestRequest(model="demo"))
    with pytest.raises(SelfRepairError, match="--parts s3://bucket is the address of a bucket, which only --ray takes"):
        check_parts("s3://bucket", IngestRequest(model="demo"))


@pytest.mark.parametrize("ray", ["local", "auto", "10.0.0.1:6379", "ray://gpu1:10001", "[::1]:6379"])
def test_who_measures_is_told_and_not_recorded(ray):
    request = IngestRequest(model="demo", ray=ray, ray_cpus=2)
    check_request(request)
    assert request.command() == "selfrepair ingest --model demo"
    assert request.left_out() == ["--ray", *([] if ray == "local" else [ray]), "--ray-cpus", "2"]


@pytest.mark.parametrize(
    ("answer", "is_ray"),
    [(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), True), (b"HTTP/1.1 400 Bad Request\r\n", False), (b"", False)],
)
def test_only_what_answers_as_ray_does_is_waited_for(answer, is_ray):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        assert _answers(f"127.0.0.1:{server.getsockname()[1]}") == is_ray
        thread.join()
        port = server.getsockname()[1]
    assert not _answers(f"ray://127.0.0.1:{port}")


def test_an_address_without_a_cluster_and_none_at_all_are_told(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_cluster, "_answers", lambda address: False)
    with pytest.raises(
        SelfRepairError, match="--ray ray://gpu1:1: no Ray cluster was found, nothing answers at ray://gpu1:1"
    ):
        ray_cluster._found("ray://gpu1:1")
    monkeypatch.setattr(
        ray_cluster.compat, "ray_address", lambda typed: "gpu1:6379"
    )  # that of a cluster that was killed
    assert ray_cluster._found("local") is None
    with pytest.raises(SelfRepairError, match="nothing answers at gpu1:6379"):
        ray_cluster._found("auto")


@pytest.fixture
def meet(tmp_path, monkeypatch):
    """What the driver's side makes of an actor's greeting."""
    ray = SimpleNamespace(wait=lambda asked, timeout: (asked, []), get=lambda answer: answer)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("selfrepair.ingest.fleet.mailbox._SEEN_WITHIN_S", 0)
    mailbox = Mailbox(str(tmp_path / "mail"))

    def _meet(**greeting: object) -> str:
        worker = object.__new__(RayWorker)
        worker.name, worker._mailbox, worker._sign, worker._fate = "gpu2", mailbox, mailbox.sign(), ""
        found = {"selfrepair": version("selfrepair"), "host": "gpu2", "pid": 7, "sees": True, "sign": mailbox.sign()}
        worker._actor = SimpleNamespace(greet=SimpleNamespace(remote=lambda *of: found | greeting))
        assert not worker._is_met()
        return worker.fate()

    return _meet


def test_a_node_of_another_version_is_refused_alone(meet):
    assert meet(selfrepair="9.9.9") == (
        f"is refused: gpu2 has selfrepair 9.9.9, this machine {version('selfrepair')}. Install the same on both"
    )


@pytest.mark.parametrize("greeting", [{"sees": False}, {"sign": ("sign-of-another-folder", "x")}])
def test_a_folder_that_is_another_one_on_a_node_ends_the_run(meet, greeting):
    with pytest.raises(
        SelfRepairError, match=r"gpu2 and .* do not see each other's files in .*mail: it is another folder"
    ):
        meet(**greeting)


def test_a_bucket_that_a_node_cannot_use_ends_the_run(meet):
    with pytest.raises(SelfRepairError, match="cannot read s3://x"):
        meet(error="cannot read s3://x")


@pytest.mark.parametrize(
    ("said", "fate"),
    [
        (
            "ModuleNotFoundError: No module named 'selfrepair.ingest'",
            "cannot start: selfrepair.ingest is not installed",
        ),
        ("/bin/python: No module named selfrepair.", "cannot start: selfrepair is not installed"),
    ],
)
def test_a_package_that_a_node_lacks_is_named(said, fate):
    pytest.importorskip("ray")
    assert ray_cluster._fate_of(RuntimeError(said)).startswith(fate)


def test_a_worker_whose_end_cannot_be_explained_is_over_all_the_same(monkeypatch):
    exceptions = pytest.importorskip("ray.exceptions")

    def fail(*of):
        raise exceptions.RayError("gone")

    monkeypatch.setattr(RayWorker, "_is_met", fail)
    monkeypatch.setattr(ray_cluster, "_fate_of", lambda error: {}["no words"])
    worker = object.__new__(RayWorker)
    worker.name, worker._fate, worker._inbox, worker._kill = "gpu2", "ended", queue.SimpleQueue(), lambda: None
    with pytest.raises(KeyError):
        worker._run()
    assert worker._inbox.get(timeout=10) == (worker, None)
