"""What holds for every test: one thread, files that are made once in a run, and random data that can be drawn again.

Tests run many tiny models: one thread is faster than two that wait for each other.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("SLURM_CPUS_ON_NODE", "1")  # of all variables the one that tells DuckDB how many threads to start
os.environ.setdefault("SELFREPAIR_TEST_SEED", str(int.from_bytes(os.urandom(4))))  # one for all workers of a run

import gc
import random
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from support import templates
from support.warm import STORING, Server, warm_server

settings.register_profile("quick", max_examples=20, deadline=None, print_blob=True)
settings.register_profile("fuzz", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("full", max_examples=40, deadline=None, print_blob=True)
settings.load_profile("full")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = os.environ["SELFREPAIR_TEST_SEED"]


def pytest_report_header(config: pytest.Config) -> str:
    return f"random data: --hypothesis-seed={config.option.hypothesis_seed}"


_LONGEST = (
    "test_a_node_and_the_driver_killed_the_nodes_store_what_one_process_does",
    "test_an_array_in_any_order_and_again_is_the_run_of_one_process",
    "test_coverage.py",
    "test_killed_interrupted_and_begun_again_two_processes_store_what_one_does",
    "test_wheel.py",
)
"""Files and tests of a quarter of a minute and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first: at the end, one worker would wait for the other's."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONGEST))


def pytest_collection_finish() -> None:
    _freeze()


def pytest_runtest_logfinish() -> None:
    if len(sys.modules) > _n_frozen[0] + 100:
        _freeze()


_n_frozen = [0]
"""How many modules there were at the last `_freeze`."""


def _freeze() -> None:
    """What imports made lives as long as the process: the garbage collector need not look through it again and again."""
    _n_frozen[:] = [len(sys.modules)]
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed:
        seed = item.config.option.hypothesis_seed
        report.sections.append(("random data", f"the same again: pytest --hypothesis-seed={seed} '{item.nodeid}'"))
    return report


@pytest.fixture(autouse=True)
def _seeded(request: pytest.FixtureRequest) -> None:
    """Whoever draws from a generator that all share begins with the run's seed, whatever ran before."""
    seed = int(request.config.option.hypothesis_seed)
    random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Starts ingests that have everything imported, in processes of their own."""
    with warm_server(tmp_path_factory.mktemp("processes")) as server:
        yield server


@pytest.fixture(scope="session")
def warehouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Forks programs that have all of the warehouse imported, and not torch; to them a warning is an error."""
    with warm_server(tmp_path_factory.mktemp("processes"), STORING, ["-W", "error"]) as server:
        yield server


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Who asks a warehouse gets one thread unless it says how many: the workers of a run share the processors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("selfrepair.warehouse.database.limits._n_processors", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _templates(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is made once in this run is shared by all its workers, whose own folders lie in one."""
    own = tmp_path_factory.getbasetemp()
    templates.share((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "templates")
