"""Where a server of this machine listens, under which names it answers, and the link that leads to it."""

import errno
import os
import secrets
import socket
from collections.abc import Callable
from shlex import quote
from typing import Any, TypeVar
from urllib.parse import quote as url_quote

import click

from selfrepair.app.server.hosts import authority, is_loopback
from selfrepair.warehouse.errors import SelfRepairError

TOKEN_VARIABLE = "SELFREPAIR_APP_TOKEN"
ALLOWED_VARIABLE = "SELFREPAIR_APP_ALLOW_HOST"
ALL_ADDRESSES = ("0.0.0.0", "::")
LONGEST_HEAD = 4_000_000
"""Bytes of a request's first line and headers: longer SQL than may be is told so, rather than cut off."""

_LEAST_TOKEN = 16
"""Characters of a token: there is no limit to the guesses."""

_F = TypeVar("_F", bound=Callable[..., Any])


def server_options(port: int) -> Callable[[_F], _F]:
    """Add the options of a command that serves: `--port`, `--host`, `--token` and `--allow-host`."""
    options = (
        click.option(
            "--port", default=port, show_default=True, type=click.IntRange(1, 65535), help="Port to serve on."
        ),
        click.option(
            "--host",
            default="localhost",
            show_default=True,
            help="Address to serve on. Any but localhost lets other machines in, and needs --token.",
        ),
        click.option(
            "--token",
            envvar=TOKEN_VARIABLE,
            show_envvar=True,
            metavar="auto|TEXT",
            help="What visitors need to know: 'auto' makes one and prints the link with it. Other users of this machine see "
            "TEXT in the list of processes; give it by the environment.",
        ),
        click.option(
            "--allow-host",
            "allowed",
            multiple=True,
            envvar=ALLOWED_VARIABLE,
            show_envvar=True,
            metavar="NAME[:PORT]",
            help="Answer to this name, too: of a proxy, or of the other end of an SSH tunnel. May be repeated.",
        ),
    )

    def add(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def checked_token(token: str | None, host: str, addresses: list[str], command: str) -> str | None:
    """The token to serve with by `command`; raises SelfRepairError where one is needed, or is too short."""
    if token == "auto":
        return secrets.token_urlsafe(24)
    if not token:
        if not all(map(is_loopback, addresses)):
            raise SelfRepairError(
                f"--host {host} lets other machines in, which needs a token. Run: selfrepair {command} --host "
                f"{quote(host)} --token auto"
            )
        return None
    if len(token) < _LEAST_TOKEN:
        raise SelfRepairError(
            f"a token of {len(token)} characters can be guessed; it needs {_LEAST_TOKEN}. Try: --token auto"
        )
    return token


def own_names(host: str, port: int) -> list[str]:
    """Names by which other machines know this one, as `--allow-host` would have them.

    With the port: without it they would have the usual ones, too, and what is served there is another server's.
    """
    name = socket.gethostname() if host in ALL_ADDRESSES else host
    own = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    return [] if is_loopback(name) or authority(own) is None else [own]


def check_address(host: str, port: int) -> list[str]:
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


def address_here(host: str, addresses: list[str]) -> str:
    """Where this machine reaches the server: by number where by loopback, since a name is looked for at ::1, too, where the
    server does not listen, and whoever does would get the token.
    """
    if host in ALL_ADDRESSES:
        return "127.0.0.1"
    if not all(map(is_loopback, addresses)):
        return host
    of_ipv4 = (address for address in addresses if ":" not in address)
    return next(of_ipv4, addresses[0])  # of a name, Streamlit takes IPv4


def link(host: str, port: int, path: str, token: str | None) -> str:
    """The link to a server, whose pages begin at `path`."""
    root = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    at = f"{root}/{path}" if path else root
    if not token:
        return at
    return f"{at}/?token={url_quote(token, safe='')}"  # the parameter that the door takes
