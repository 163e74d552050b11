"""`selfrepair app` as a process: what it refuses, and that nothing of it is left however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest

from selfrepair.app.cli.failures import EXTRAS, install_line
from selfrepair.app.server.addresses import address_here, link
from selfrepair.app.server.serve import _base_path, app
from selfrepair.warehouse.errors import SelfRepairError
from support.browser import COMMAND, free_port
from support.empty import installed


def heed_signals() -> None:
    """Have the child heed Ctrl-C and a closed terminal, which it may inherit as ignored: under nohup, or in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


ODD_REQUESTS = [
    ("GET", "/no/such/page"),
    ("GET", "/static/none.js"),
    ("GET", "/static/%2e%2e/%2e%2e/secrets"),
    ("GET", "//other.example/x"),
    ("GET", "/media/none.png"),
    ("GET", "/component/none/x.js"),
    ("GET", "/_stcore/none"),
    ("PUT", "/_stcore/upload_file/none/none"),
    ("DELETE", "/_stcore/upload_file/none/none"),
    ("POST", "/"),
    ("TRACE", "/"),
    ("GET", "/_stcore/stream"),
]
"""What is not there, not allowed or not read."""


@contextmanager
def serving(db: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, as a terminal starts it, when it says that it serves."""
    process = subprocess.Popen(
        [*COMMAND, "--db", str(db), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_signals,
    )
    with process:
        assert process.stdout is not None
        process.said = process.stdout.readline()  # type: ignore[attr-defined]
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def refused(*options: str, before: str = "") -> str:
    """What the command says that ends with code 1 before it serves."""
    code = before + "from selfrepair.app.cli.main import main; main(prog_name='selfrepair')"
    done = subprocess.run(
        [sys.executable, "-c", code, "app", *options], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A warehouse without runs."""
    return installed(tmp_path)


def test_it_says_where_it_serves_and_serves_there(db: Path) -> None:
    port = free_port()
    with serving(db, "--port", str(port)) as process:
        assert process.said == f"{db} at http://localhost:{port} (Ctrl-C to stop)\n"  # type: ignore[attr-defined]
        with urlopen(f"http://localhost:{port}/_stcore/health", timeout=30) as answer:
            assert answer.read() == b"ok"
        with urlopen(f"http://localhost:{port}/_stcore/host-config", timeout=30) as answer:
            allowed = json.load(answer)["allowedOrigins"]
        assert allowed == ["https://nobody.invalid"]  # whose pages may steer the app by messages
        statuses = set()
        for method, path in ODD_REQUESTS:
            connection = HTTPConnection("localhost", port, timeout=30)
            with closing(connection):
                connection.request(method, path, body=b"123" if method in ("PUT", "POST") else None)
                answer = connection.getresponse()
                given = {name.lower(): value for name, value in answer.getheaders()}
            statuses.add(answer.status)
            assert given["x-frame-options"] == "DENY", (method, path)
            assert given["x-content-type-options"] == "nosniff", (method, path)
            assert "frame-ancestors 'none'" in given["content-security-policy"], (method, path)
        assert statuses > {400, 403, 404, 405}


@pytest.mark.slow
def test_the_printed_link_has_the_path_and_the_token_and_leads_to_the_app(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text("[server]\nbaseUrlPath = '/lab/self-repair/'\n")
    monkeypatch.delenv("STREAMLIT_SERVER_BASE_URL_PATH", raising=False)
    monkeypatch.chdir(tmp_path)
    with serving(db, "--port", str(port), "--token", "auto") as process:
        found = re.search(r"at (http\S+) \(Ctrl-C to stop\)", process.said)  # type: ignore[attr-defined]
        assert found is not None
        link, _, token = found[1].partition("/?token=")
        assert link == f"http://127.0.0.1:{port}/lab/self-repair"
        assert len(token) == 32
        assert token not in " ".join(word for child in children(process) for word in child.cmdline())
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{link}/", timeout=30)
        with urlopen(found[1], timeout=30) as answer:
            assert answer.headers["refresh"] == "0; url=?"
            cookie = answer.headers["set-cookie"]
        assert "Path=/lab/self-repair;" in cookie
        for path, content in (("", b"<title>Streamlit</title>"), ("/heads", b"<title>"), ("/_stcore/health", b"ok")):
            asked = Request(f"{link}{path}", headers={"cookie": cookie.partition(";")[0]})
            with urlopen(asked, timeout=30) as answer:
                assert content in answer.read()


def refusal(db: Path, **options: Any) -> str:
    """The error of the command with these options."""
    given = {"db": db, "port": free_port(), "host": "localhost", "token": None, "allowed": (), **options}
    with pytest.raises(SelfRepairError) as error:
        app.callback(**given)  # type: ignore[misc]
    return str(error.value)


def test_what_would_let_others_in_is_refused_with_the_command_to_give(db: Path) -> None:
    assert "needs a token. Run: selfrepair app --host 0.0.0.0 --token auto" in refusal(db, host="0.0.0.0")
    assert "needs a token. Run: selfrepair app --host :: --token auto" in refusal(db, host="::", token="")
    assert "5 characters can be guessed; it needs 16. Try: --token auto" in refusal(db, token="short")
    assert "Try: --allow-host lab.example.org" in refusal(db, allowed=("https://lab.example.org",))


def test_links_have_the_path_at_which_a_proxy_has_the_app(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert link("::1", 8501, "", None) == "http://[::1]:8501"
    assert link("localhost", 8501, "lab/a", "a/b &c") == "http://localhost:8501/lab/a/?token=a%2Fb%20%26c"
    for wrong in ("a b", "a?b", "../a", "a//b", "é"):
        monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", wrong)
        assert "Use letters, digits and slashes, or unset it" in refusal(db)


def test_the_path_stands_where_streamlit_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMLIT_SERVER_BASE_URL_PATH", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert _base_path() == ""
    for folder, text, path in (
        ("home", "server.baseUrlPath = '/user/'", "user"),
        (".", "[server]\nport = 1\nbaseUrlPath = 'env:LAB'", "user"),  # the variable is not set
        (".", "[server]\nbaseUrlPath = 'lab/a'", "lab/a"),
        (".", "server = 3", "user"),
        (".", "[server", "user"),
        (".", "[server]\nbaseUrlPath = ''", ""),
    ):
        file = tmp_path / folder / ".streamlit" / "config.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        assert _base_path() == path, text
    file.write_text("server.baseUrlPath = '../a'")
    with pytest.raises(SelfRepairError, match=f"server.baseUrlPath of {file} is '../a'"):
        _base_path()
    monkeypatch.setenv("STREAMLIT_SERVER_BASE_URL_PATH", "b")
    assert _base_path() == "b"


def test_the_token_goes_to_a_number_that_only_the_server_listens_at() -> None:
    assert address_here("localhost", ["::1", "127.0.0.1"]) == "127.0.0.1"
    assert address_here("box-of-etc-hosts", ["127.0.1.1"]) == "127.0.1.1"
    assert address_here("0.0.0.0", ["0.0.0.0"]) == address_here("::", ["::"]) == "127.0.0.1"  # :: is both
    assert address_here("::1", ["::1"]) == "::1"
    assert address_here("labbox", ["192.168.1.5"]) == "labbox"


def test_a_file_that_does_not_exist_is_refused_before_it_serves(tmp_path: Path) -> None:
    path = tmp_path / "nope.duckdb"
    assert refused("--db", str(path)) == (
        f"Error: there is no warehouse at {path}. Make one (selfrepair demo --db {path}), or name another file.\n"
    )
    assert not path.exists()


@pytest.mark.slow
def test_part_files_of_shards_are_served_before_they_are_loaded(tmp_path: Path) -> None:
    (tmp_path / "w.duckdb.parts").mkdir()
    with serving(tmp_path / "w.duckdb", "--port", str(free_port())) as process:
        assert process.said.startswith(f"{tmp_path}/w.duckdb at http://localhost:")  # type: ignore[attr-defined]
    assert not (tmp_path / "w.duckdb").exists()


@pytest.mark.slow
def test_only_this_machine_is_served_unless_another_host_is_given(db: Path) -> None:
    with serving(db, "--port", str(free_port())) as process:
        (server,) = psutil.Process(process.pid).children()
        listening = [at.laddr.ip for at in server.net_connections() if at.status == psutil.CONN_LISTEN]
        assert set(listening) <= {"127.0.0.1", "::1"}
        assert listening


@pytest.mark.slow
def test_ctrl_c_ends_it_in_silence_and_leaves_nothing(db: Path) -> None:
    with serving(db, "--port", str(free_port())) as process:
        started = children(process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "\nStopped.\n")
    assert started
    assert psutil.wait_procs(started, timeout=10)[1] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
@pytest.mark.slow
def test_no_server_outlives_its_command(number: signal.Signals, db: Path) -> None:
    with serving(db, "--port", str(free_port())) as process:
        started = children(process)
        process.send_signal(number)
        process.wait(timeout=30)
        assert started
        assert psutil.wait_procs(started, timeout=10)[1] == []


def test_a_server_that_ends_by_itself_is_an_error(db: Path) -> None:
    with serving(db, "--port", str(free_port())) as process:
        (server,) = psutil.Process(process.pid).children()
        server.kill()
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == "Error: the server ended unexpectedly with exit code -9; its messages are above.\n"


def test_a_port_in_use_names_another(db: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused("--port", str(port), "--db", str(db))
    assert said == (
        f"Error: port {port} of localhost is in use, perhaps by another selfrepair app. Try: --port "
        f"{port + 1 if port < 65535 else port - 1}\n"
    )


def test_a_host_that_is_not_this_machine_is_refused(db: Path) -> None:
    assert "this machine has no address 'no such host'" in refused("--host", "no such host", "--db", str(db))
    assert "cannot serve on port 8501 of 192.0.2.1" in refused("--host", "192.0.2.1", "--db", str(db))


@pytest.mark.parametrize("package", EXTRAS["app"])
def test_a_missing_package_says_what_to_install(package: str) -> None:
    said = refused(before=f"import sys; sys.modules[{package!r}] = None; ")
    assert said == (
        f"Error: this command needs the package '{package}', which is not installed. "
        f"Install it: {install_line('app')}\n"
    )


def test_nobody_is_asked_for_the_address_of_this_machine() -> None:
    """With --host 0.0.0.0 Streamlit asks a host on the internet for it."""
    code = (
        "import streamlit.net_util, streamlit.web.cli, runpy\n"
        "streamlit.net_util.get_external_ip = lambda: 'asked'\n"
        "streamlit.web.cli.main = lambda **given: print(streamlit.net_util.get_external_ip())\n"
        "runpy.run_module('selfrepair.app.server.process', run_name='__main__')\n"
    )
    reading, writing = os.pipe()  # stays open, so that the process ends by itself
    done = subprocess.run([sys.executable, "-c", code], stdin=reading, capture_output=True, text=True, timeout=60)
    os.close(reading)
    os.close(writing)
    assert done.stdout == "None\n", done.stderr


@pytest.mark.slow
def test_every_address_is_served_with_0_0_0_0(db: Path) -> None:
    port = free_port()
    began = time.monotonic()
    with serving(db, "--port", str(port), "--host", "0.0.0.0", "--token", "auto") as process:
        link = process.said.split()[2]  # type: ignore[attr-defined]
        assert link.startswith(f"http://127.0.0.1:{port}/?token=")
        assert process.stdout is not None
        from_elsewhere = process.stdout.readline()
        assert from_elsewhere.startswith(f"From other machines: http://{socket.gethostname()}:{port}/?token=")
        with urlopen(link, timeout=30) as answer:
            cookie = answer.headers["set-cookie"].partition(";")[0]
        asked = Request(
            f"http://127.0.0.1:{port}/", headers={"cookie": cookie, "host": f"{socket.gethostname()}:{port}"}
        )
        with urlopen(asked, timeout=30) as answer:
            assert b"<title>" in answer.read()
        assert time.monotonic() - began < 60
        (server,) = psutil.Process(process.pid).children()
        assert {at.laddr.ip for at in server.net_connections() if at.status == psutil.CONN_LISTEN} == {"0.0.0.0"}
