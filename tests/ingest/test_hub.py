"""An unreachable hub is found out at once and said once; a reachable one is asked as ever."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

MAIN = "from selfrepair.app.cli import main; main()"


def ingest(endpoint: str, *options: str, **environment: str) -> tuple[str, float]:
    """What an ingest that must fail says, and the seconds it took, in a process that takes `endpoint` for the hub."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_OFFLINE"))}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "ingest", *options, "--device", "cpu", "--dry-run"],
        capture_output=True,
        text=True,
        env={**clean, "HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1", **environment},
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr, time.monotonic() - began


@pytest.fixture
def closed_port():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent_port():
    """An address where somebody listens and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def empty_hub():
    """The address of a hub that has nothing, and the list of what it was asked for."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

        do_GET = do_HEAD  # noqa: N815

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


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
def test_without_a_network_it_fails_at_once_in_one_message(closed_port, options, start, step):
    _, without_hub_s = ingest(closed_port, "--model", "demo", "--dataset", "nowhere.txt")
    said, seconds = ingest(closed_port, *options)
    assert said.startswith(f"{start}the hub at {closed_port} cannot be reached: ")
    assert said.endswith(f"{step}\n")
    assert "local cache" in said
    assert len(said.splitlines()) == 1
    assert seconds < without_hub_s + 15  # trying again and again would be 23 seconds on top


def test_a_hub_that_never_answers_is_given_up_after_the_time_that_is_set(silent_port):
    said, _ = ingest(silent_port, "--model", "some/model", HF_HUB_ETAG_TIMEOUT="1")
    assert f"the hub at {silent_port} cannot be reached: no answer within 1 s" in said
    assert len(said.splitlines()) == 1


def test_offline_by_wish_asks_nobody(empty_hub):
    endpoint, asked = empty_hub
    said, _ = ingest(endpoint, "--model", "some/model", HF_HUB_OFFLINE="1")
    assert "model 'some/model' cannot be loaded (HF_HUB_OFFLINE is set" in said
    assert "The model is not whole in the local cache." in said
    assert asked == []


def test_a_hub_that_answers_is_asked_for_the_model(empty_hub):
    endpoint, asked = empty_hub
    said, _ = ingest(endpoint, "--model", "some/model")
    assert any("some/model" in path for path in asked)
    assert "cannot be reached" not in said
    assert "Give a hub id such as EleutherAI/pythia-160m" in said
