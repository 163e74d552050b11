"""`selfrepair app`: serve the pages from this machine."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path

import click

from selfrepair.app.cli.failures import EXTRAS
from selfrepair.app.server.addresses import (
    ALL_ADDRESSES,
    ALLOWED_VARIABLE,
    TOKEN_VARIABLE,
    address_here,
    check_address,
    checked_token,
    link,
    own_names,
    server_options,
)
from selfrepair.app.server.hosts import parse_allowed
from selfrepair.warehouse import files
from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.database.lake.address import Lake, full_address, parts_beside
from selfrepair.warehouse.database.publication import address_of
from selfrepair.warehouse.errors import SelfRepairError, check_there

HOME = Path(__file__).parents[1] / "home.py"
_ASGI = Path(__file__).parent / "asgi.py"

_SETTINGS = {
    "browser.gatherUsageStats": "false",
    "client.allowedOrigins": "https://nobody.invalid",  # whose pages may steer ours by messages; by default anyone's may
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.level": "warning",
    "runner.magicEnabled": "false",
    "server.enableAgentApi": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    # of selected widgets, where Streamlit's red looks like an error; a single one would replace the dark theme
    "theme.light.primaryColor": "#2f7fc1",
    "theme.dark.primaryColor": "#5aa5e0",
}
BASE_PATH_VARIABLE = "STREAMLIT_SERVER_BASE_URL_PATH"
_PAUSE_S = 0.1
_ANSWER_TIMEOUT_S = 30.0


@click.command()
@db_option
@server_options(port=8501)
def app(db: Path, port: int, host: str, token: str | None, allowed: tuple[str, ...]) -> None:
    """Explore a warehouse in the browser.

    Serves until interrupted. The warehouse is opened read-only, and released to a load between queries.
    """
    for package in EXTRAS["app"]:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
    if not parts_beside(db).exists():  # part files of shards can be looked at before they are loaded
        check_there(db)
    path = _base_path()
    parse_allowed(allowed)
    addresses = check_address(host, port)
    token = checked_token(token, host, addresses, "app")
    settings = {**_SETTINGS, "server.address": host, "server.port": str(port), "server.baseUrlPath": path}
    options = [f"--{name}={value}" for name, value in settings.items()]
    names = [*allowed, *own_names(host, port)]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "selfrepair.app.server.process", "run", str(_ASGI), *options],
        env={
            **os.environ,
            "SELFREPAIR_DB": full_address(db.absolute()) if isinstance(db, Lake) else address_of(db.absolute()),
            TOKEN_VARIABLE: token or "",
            ALLOWED_VARIABLE: " ".join(names),
            BASE_PATH_VARIABLE: path,
        },
        stdin=subprocess.PIPE,  # closes when this process ends, however it does, and the server ends with it
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone
    ) as process:
        try:
            here = address_here(host, addresses)
            if _wait_until_up(process, here, port):
                click.echo(f"{address_of(db)} at {link(here if token else host, port, path, token)} (Ctrl-C to stop)")
                if host in ALL_ADDRESSES:
                    click.echo(f"From other machines: {link(socket.gethostname(), port, path, token)}")
            process.wait()
        except KeyboardInterrupt:
            _end(process)
            return
    raise SelfRepairError(f"the server ended unexpectedly with exit code {process.returncode}; its messages are above.")


def _base_path() -> str:
    """Where on its host a proxy has the app, without slashes at the ends: Streamlit's own setting, by the environment or, as
    Streamlit looks for it, in the config.toml of this folder or the user's.
    """
    name, given = BASE_PATH_VARIABLE, os.environ.get(BASE_PATH_VARIABLE)
    for folder in (Path.cwd(), Path.home()):
        if given is None:
            file = folder / ".streamlit" / "config.toml"
            name, given = f"server.baseUrlPath of {file}", _base_path_in(file)
    path = (given or "").strip("/")
    if not re.fullmatch(r"[\w.~/-]*", path, re.ASCII) or "//" in path or ".." in path:
        raise SelfRepairError(
            f"{name} is '{path}', which is no path that the app can be served at. Use letters, digits and "
            "slashes, or unset it."
        )
    return path


def _base_path_in(file: Path) -> str | None:
    """As one of Streamlit's files has it, which Streamlit itself says where it cannot be read."""
    try:
        server = tomllib.loads(files.read_file(file).decode()).get("server", {})
        value = server.get("baseUrlPath") if isinstance(server, dict) else None
    except (OSError, ValueError, RecursionError):
        return None
    if isinstance(value, str) and value.startswith("env:"):
        return os.environ.get(value.removeprefix("env:"))
    return None if value is None else str(value)


def _wait_until_up(process: subprocess.Popen[bytes], address: str, port: int) -> bool:
    """Wait until the server answers, which it does once warmed up; False when it ends before that."""
    while process.poll() is None:
        with contextlib.closing(HTTPConnection(address, port, timeout=_ANSWER_TIMEOUT_S)) as connection:
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
