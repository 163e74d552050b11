"""`selfrepair app`: serve the pages from this machine."""

import contextlib
import errno
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import tomllib
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from urllib.parse import quote as url_quote

import click

from selfrepair.app.cli.failures import EXTRAS
from selfrepair.app.server.hosts import authority, is_loopback, parse_allowed
from selfrepair.warehouse import files
from selfrepair.warehouse.cli.options import db_option
from selfrepair.warehouse.database.lake.address import address_of, parts_beside
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
TOKEN_VARIABLE = "SELFREPAIR_APP_TOKEN"
ALLOWED_VARIABLE = "SELFREPAIR_APP_ALLOW_HOST"
_ALL_ADDRESSES = ("0.0.0.0", "::")
_LEAST_TOKEN = 16
"""Characters of a token: there is no limit to the guesses."""

BASE_PATH_VARIABLE = "STREAMLIT_SERVER_BASE_URL_PATH"
_PAUSE_S = 0.1
_ANSWER_TIMEOUT_S = 30.0


@click.command()
@db_option
@click.option("--port", default=8501, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on.")
@click.option(
    "--host",
    default="localhost",
    show_default=True,
    help="Address to serve on. Any but localhost lets other machines in, and needs --token.",
)
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    show_envvar=True,
    metavar="auto|TEXT",
    help="What visitors need to know: 'auto' makes one and prints the link with it. Other users of this machine see TEXT "
    "in the list of processes; give it by the environment.",
)
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    envvar=ALLOWED_VARIABLE,
    show_envvar=True,
    metavar="NAME[:PORT]",
    help="Answer to this name, too: of a proxy, or of the other end of an SSH tunnel. May be repeated.",
)
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
    addresses = _check_address(host, port)
    token = _checked_token(token, host, addresses)
    settings = {**_SETTINGS, "server.address": host, "server.port": str(port), "server.baseUrlPath": path}
    options = [f"--{name}={value}" for name, value in settings.items()]
    names = [*allowed, *_own_names(host, port)]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "selfrepair.app.server.process", "run", str(_ASGI), *options],
        env={
            **os.environ,
            "SELFREPAIR_DB": address_of(db.absolute()),
            TOKEN_VARIABLE: token or "",
            ALLOWED_VARIABLE: " ".join(names),
            BASE_PATH_VARIABLE: path,
        },
        stdin=subprocess.PIPE,  # closes when this process ends, however it does, and the server ends with it
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone
    ) as process:
        try:
            here = _address_here(host, addresses)
            if _wait_until_up(process, here, port):
                click.echo(f"{db} at {_link(here if token else host, port, path, token)} (Ctrl-C to stop)")
                if host in _ALL_ADDRESSES:
                    click.echo(f"From other machines: {_link(socket.gethostname(), port, path, token)}")
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


def _checked_token(token: str | None, host: str, addresses: list[str]) -> str | None:
    """The token to serve with; raises SelfRepairError where one is needed, or is too short."""
    if token == "auto":
        return secrets.token_urlsafe(24)
    if not token:
        if not all(map(is_loopback, addresses)):
            raise SelfRepairError(
                f"--host {host} lets other machines in, which needs a token. Run: selfrepair app --host {quote(host)} "
                "--token auto"
            )
        return None
    if len(token) < _LEAST_TOKEN:
        raise SelfRepairError(
            f"a token of {len(token)} characters can be guessed; it needs {_LEAST_TOKEN}. Try: --token auto"
        )
    return token


def _own_names(host: str, port: int) -> list[str]:
    """Names by which other machines know this one, as `--allow-host` would have them.

    With the port: without it they would have the usual ones, too, and what is served there is another server's.
    """
    name = socket.gethostname() if host in _ALL_ADDRESSES else host
    own = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return [] if is_loopback(name) or authority(own) is None else [own]


def _check_address(host: str, port: int) -> list[str]:
    """The host's addresses; raises SelfRepairError unless this machine can serve at the port of one of them."""
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
    return [str(address[0]) for *_, address in addresses]


def _next_port(port: int) -> int:
    """The next port, or the one below the last."""
    return port + 1 if port < 65535 else port - 1


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


def _address_here(host: str, addresses: list[str]) -> str:
    """Where this machine reaches the server: by number where by loopback, since a name is looked for at ::1, too, where the
    server does not listen, and whoever does would get the token.
    """
    if host in _ALL_ADDRESSES:
        return "127.0.0.1"
    if not all(map(is_loopback, addresses)):
        return host
    of_ipv4 = (address for address in addresses if ":" not in address)
    return next(of_ipv4, addresses[0])  # of a name, Streamlit takes IPv4


def _link(host: str, port: int, path: str, token: str | None) -> str:
    root = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    at = f"{root}/{path}" if path else root
    if not token:
        return at
    return f"{at}/?token={url_quote(token, safe='')}"  # the parameter that the door takes
