"""`selfrepair app`: serve the pages from this machine."""

import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path

import click

from selfrepair.app.cli.failures import EXTRAS
from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.errors import SelfRepairError, check_there

HOME = Path(__file__).parents[1] / "home.py"
_ASGI = Path(__file__).parent / "asgi.py"

_SETTINGS = {
    "browser.gatherUsageStats": "false",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    "runner.magicEnabled": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    # of selected widgets, where Streamlit's red looks like an error; a single one would replace the dark theme
    "theme.light.primaryColor": "#2f7fc1",
    "theme.dark.primaryColor": "#5aa5e0",
}
_ALL_ADDRESSES = ("0.0.0.0", "::")
_PAUSE_S = 0.1
_ANSWER_TIMEOUT_S = 30.0


@click.command()
@db_option
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on.")
@click.option(
    "--host",
    default="localhost",
    show_default=True,
    help="Address to serve on. Anyone who can reach it can read the warehouse: there is no password.",
)
def app(db: Path, port: int, host: str) -> None:
    """Explore a warehouse in the browser.

    Serves until interrupted. The warehouse is opened read-only, and released to a load between queries.
    """
    for package in EXTRAS["app"]:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    if not Path(f"{db}.parts").exists():  # part files of shards can be looked at before they are loaded
        check_there(db)
    _check_address(host, port)
    settings = {**_SETTINGS, "server.address": host, "server.port": str(port)}
    options = [f"--{name}={value}" for name, value in settings.items()]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "selfrepair.app.server.process", "run", str(_ASGI), *options],
        env={**os.environ, "SELFREPAIR_DB": str(db.absolute())},
        stdin=subprocess.PIPE,  # closes when this process ends, however it does, and the server ends with it
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone
    ) as process:
        try:
            if _wait_until_up(process, host, port):
                click.echo(f"{db} at {_url(host, port)} (Ctrl-C to stop)")
            process.wait()
        except KeyboardInterrupt:
            _end(process)
            return
    raise SelfRepairError(f"the server ended unexpectedly with exit code {process.returncode}; its messages are above.")


def _check_address(host: str, port: int) -> None:
    """Raise SelfRepairError unless this machine can serve at the port of one of the host's addresses."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise SelfRepairError(
            f"this machine has no address '{host}'. Leave out --host, or use 0.0.0.0 for all of its addresses."
        ) from None
    refusals = []
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as trial:
                if os.name == "posix":
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
                if family == socket.AF_INET6:
                    trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                trial.bind(address)
        except OSError as error:
            refusals.append(error)
    for refusal in refusals:
        if refusal.errno == errno.EADDRINUSE:
            raise SelfRepairError(
                f"port {port} of {host} is in use, perhaps by another selfrepair app. Try: --port {_next_port(port)}"
            )
    if len(refusals) == len(addresses):
        raise SelfRepairError(
            f"cannot serve on port {port} of {host}: {refusals[0].strerror}. Try another --port, from 1024 up, or --host."
        )


def _next_port(port: int) -> int:
    """The next port, or the one below the last."""
    return port + 1 if port < 65535 else port - 1


def _wait_until_up(process: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Wait until the server answers, which it does once warmed up; False when it ends before that."""
    while process.poll() is None:
        with contextlib.closing(HTTPConnection(_reachable_host(host), port, timeout=_ANSWER_TIMEOUT_S)) as connection:
            try:
                connection.request("GET", "/_stcore/health")
                connection.getresponse()
            except HTTPException:
                return True  # it does not speak plain HTTP, as with a certificate in the user's Streamlit settings
            except OSError:
                time.sleep(_PAUSE_S)
            else:
                return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    click.echo("\nStopped.", err=True)


def _reachable_host(host: str) -> str:
    return "localhost" if host in _ALL_ADDRESSES else host


def _url(host: str, port: int) -> str:
    reached_at = _reachable_host(host)
    return f"http://[{reached_at}]:{port}" if ":" in reached_at else f"http://{reached_at}:{port}"
