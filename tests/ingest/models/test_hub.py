"""An unreachable hub is found out at once and said once; a reachable one is asked as ever, and no wait for it is endless."""

import json
import socket
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from selfrepair.app.cli.main import main
from selfrepair.ingest.models.hub.snapshot import fetch_model
from support import hub, tiny


def refused(*options: str) -> str:
    """What an ingest that must fail says."""
    result = CliRunner().invoke(main, ["ingest", *options, "--device", "cpu", "--dry-run"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


@pytest.fixture
def closed_port(tmp_path):
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with hub.ask_only(address, tmp_path / "cache"):
            yield address


@pytest.fixture
def silent_port(tmp_path):
    """An address where somebody listens and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with hub.ask_only(address, tmp_path / "cache"):
            yield address


@pytest.mark.parametrize(
    ("options", "start", "step"),
    [
        (("--model", "some/model"), "Error: model 'some/model' cannot be loaded (", "`--model demo` needs no network."),
        (
            ("--model", "demo", "--dataset", "some/texts"),
            "Error: dataset 'some/texts' (split 'train') cannot be read: ",
            "or `stdlib`, which needs no network.",
        ),
    ],
    ids=["model", "dataset"],
)
def test_without_a_network_it_fails_at_once_in_one_message(closed_port, options, start, step, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waits {seconds} s to try again"))
    said = refused(*options)
    assert said.startswith(f"{start}the hub at {closed_port} cannot be reached: ")
    assert said.endswith(f"{step}\n")
    assert "local cache" in said


def test_a_hub_that_never_answers_is_given_up_after_the_time_that_is_set(silent_port, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    said = refused("--model", "some/model")
    assert f"the hub at {silent_port} cannot be reached: no answer within 1 s" in said


def test_a_hub_that_answers_is_asked_for_the_model(tmp_path):
    with hub.serve() as server, hub.ask_only(server.address, tmp_path / "cache"):
        said = refused("--model", "some/model")
        assert server.asked("some/model")
    assert "cannot be reached" not in said
    assert "Give a hub id such as EleutherAI/pythia-160m" in said


OFFLINE = """
import json, torch
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.warehouse.errors import SelfRepairError

def attempt(step):
    how = {"precision": PRECISIONS["float32"], "device": torch.device("cpu")}
    try:
        return load_model("lab/tiny", checkpoint=step, **how).record.revision
    except SelfRepairError as error:
        return str(error)

print(json.dumps([attempt(step) for step in (3000, 4000, None)]))
"""


@pytest.mark.slow
def test_offline_by_wish_nobody_is_asked_and_the_cache_is_enough(tmp_path):
    """In a process of its own: HF_HUB_OFFLINE is read when the hub's clients are imported."""
    with hub.serve() as server:
        server.add("models", "lab/tiny", tiny.save(tmp_path / "model"), "step3000")
        with hub.ask_only(server.address, tmp_path / "cache"):
            fetch_model("lab/tiny", "step3000")
        n_asked = len(server.requests)
        environment = {**hub.environment(server.address, tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run([sys.executable, "-c", OFFLINE], stdout=subprocess.PIPE, env=environment, check=True)
        assert len(server.requests) == n_asked
    cached, *others = json.loads(done.stdout)
    assert cached == "step3000"
    for said, at in zip(others, (" at revision 'step4000'", ""), strict=True):
        assert f"model 'lab/tiny'{at} cannot be loaded (HF_HUB_OFFLINE is set" in said
        assert "The model is not complete in the local cache, which has --revision step3000 of it." in said
