"""Actors on two nodes measure one run; a node and the driver are killed: the rows are those of one process."""

import contextlib
import json
import signal
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from support.fleets import MAIN, RUN, assert_same_run, finish, measured_by, until_units
from support.warm import Process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="workers on a cluster need the extra `ray`"),
]

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_raylet_start_wait_time_s": "300",
}

OTHER_VERSION = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: "9.9.9" if name == "selfrepair" else version(name)
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """Two nodes of a core, and one that has another version of the package."""
    from ray.cluster_utils import Cluster

    other = tmp_path_factory.mktemp("other")
    (other / "sitecustomize.py").write_text(OTHER_VERSION)
    at_sigterm = signal.getsignal(signal.SIGTERM)  # a node takes it for itself
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        try:
            cluster.other = cluster.add_node(**node, wait=False)
            cluster.add_node(**node, wait=False, env_vars={"PYTHONPATH": str(other)})
            cluster.wait_for_nodes(timeout=300)
            yield cluster
        finally:
            cluster.shutdown()
            signal.signal(signal.SIGTERM, at_sigterm)


@pytest.fixture
def start(server, cluster) -> Callable[..., Process]:
    return lambda db, *more: server.start(MAIN, ["ingest", *RUN, "--db", str(db), *more])


def until_it_measures(node: object, db: Path, process: Process) -> None:
    """Wait until a worker of this driver on the node has measured a unit, and so is at the next."""
    began = psutil.Process(process.pid).create_time()  # workers of the driver that was killed may live on for a moment
    raylet = node.all_processes["raylet"][0].process.pid
    while process.poll() is None:
        for path in Path(f"{db}.parts").glob("*/unit-*/manifest.json"):
            with contextlib.suppress(FileNotFoundError, psutil.NoSuchProcess):  # it is loaded, or an earlier driver's
                worker = json.loads(path.read_text())["by"]["worker"]
                its = psutil.Process(int(worker.rpartition(":")[2]))
                if its.create_time() > began and raylet in (parent.pid for parent in its.parents()):
                    return
        time.sleep(0.01)
    pytest.fail(process.communicate()[1])


def test_a_node_and_the_driver_killed_the_nodes_store_what_one_process_does(start, cluster, tmp_path):
    one, db, bucket = tmp_path / "one.duckdb", tmp_path / "many.duckdb", tmp_path / "bucket"
    alone = start(one, "--device", "cpu")
    finish(alone)
    many = ["--ray", cluster.address, "--ray-cpus", "1", "--parts", f"file://{bucket}"]

    process = start(db, *many)
    until_units(db, process, 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    process = start(db, *many)
    until_it_measures(cluster.other, db, process)
    cluster.remove_node(cluster.other, allow_graceful=False)
    out, err = finish(process)
    assert "has selfrepair 9.9.9, this machine" in err
    assert "its node went down" in err
    assert "is measured again" in " ".join(err.split())
    assert "is complete" in out
    assert "Traceback" not in err
    assert_same_run(db, one)
    assert measured_by(db)[1] >= 2
    left = [path.name for folder in bucket.iterdir() for path in folder.iterdir()]
    assert all(name.startswith(".sign.") for name in left), left  # of actors of the driver that was killed
