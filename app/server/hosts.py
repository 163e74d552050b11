"""The names under which the app may be asked: loopback, the address that a request came in at, and what `--allow-host` adds.

A page of another site can have its own name resolve to 127.0.0.1 (DNS rebinding). The browser then takes the app for that
site, and only the Host header tells the two apart.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from selfrepair.warehouse.errors import SelfRepairError

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@]+)")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

Address = tuple[str, int]
"""Host and port of a socket."""


@dataclass(frozen=True)
class Authority:
    """Host and port as a header has them: the name in lower case, an IP address in its one canonical form."""

    host: str
    port: int | None

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    def port_of(self, scheme: str) -> int:
        """The port, which the scheme decides where none is written."""
        return _PORTS[scheme] if self.port is None else self.port


def authority(text: str) -> Authority | None:
    """The host and port that `text` names; None for anything else, such as a decimal IP address or a zone."""
    found = _AUTHORITY.fullmatch(text)
    if found is None or (found[2] and not 0 < int(found[2]) < 65536):
        return None
    host, port = found[1].lower(), int(found[2]) if found[2] else None
    if host.startswith("[") or re.fullmatch(r"[0-9.]+", host) or re.fullmatch(r"0x[0-9a-f.x]+", host):
        address = _ip(host.strip("[]"))
        if address is None or (":" in host) != host.startswith("["):
            return None
        return Authority(str(address), port)
    return Authority(host, port)


def host_header(address: Address) -> str:
    """The Host of a request at this address: `127.0.0.1:8501`, `[::1]:8501`."""
    host, port = _canonical(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host of an `Authority`, or an address of a socket, is one that only this machine can reach."""
    address = _ip(host)
    return host == "localhost" if address is None else address.is_loopback


def parse_allowed(names: Iterable[str]) -> tuple[Authority, ...]:
    """What `--allow-host` names; raises SelfRepairError for anything but NAME or NAME:PORT."""
    found = []
    for name in names:
        bare = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
        if (allowed := authority(bare)) is None:
            raise SelfRepairError(
                f"--allow-host takes a host name, with a port where it is not the usual one, and not '{name}'. "
                "Try: --allow-host lab.example.org, or --allow-host lab.example.org:8443"
            )
        found.append(allowed)
    return tuple(found)


def admits_host(asked: Authority, allowed: Iterable[Authority], scheme: str, arrived_at: Address) -> bool:
    """Whether the app answers to this Host. `arrived_at`: the socket's own address and port."""
    host, port = arrived_at
    own = asked.port_of(scheme) == port and (is_loopback(asked.host) or asked.host == _canonical(host))
    return own or _is_among(asked, allowed, scheme, port)


def admits_origin(origin: str, asked: Authority, allowed: Iterable[Authority], scheme: str, port: int) -> bool:
    """Whether a page of this Origin may ask: one of the app itself, or of an allowed host."""
    found = _ORIGIN.fullmatch(origin)
    if found is None or (its := authority(found[2])) is None:
        return False
    same_scheme = found[1] == {"ws": "http", "wss": "https"}.get(scheme, scheme)
    if same_scheme and its.host == asked.host and its.port_of(scheme) == asked.port_of(scheme):
        return True
    return _is_among(its, allowed, found[1], port)


def _is_among(asked: Authority, allowed: Iterable[Authority], scheme: str, port: int) -> bool:
    """A name allowed without a port has the usual ports, which are not written, or the app's own."""
    return any(
        asked.host == one.host
        and (asked.port in (None, port) if one.port is None else asked.port_of(scheme) == one.port)
        for one in allowed
    )


def _canonical(host: str) -> str:
    address = _ip(host)
    return host.lower() if address is None else str(address)


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])  # an address of a socket may have a zone
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
