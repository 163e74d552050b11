"""How many questions a second `selfrepair serve` answers: `python -m benchmarks.http WAREHOUSE`.

A server of its own is asked at loopback by many clients, each over a connection that stays open: small questions of heads, as
JSON, in the rhythm of `--rate` all together, or as fast as they are answered (`--rate 0`). Some clients know the last answer
and ask whether it has changed. Every answer is checked.
"""

import asyncio
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import click
import psutil

from selfrepair import Warehouse

CHANGED_IN = 4
"""One in so many requests does not say which answer the client has."""


@dataclass
class Found:
    """What the clients saw: seconds of each answer, how often each status came, and what went wrong."""

    took_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


@click.command()
@click.argument("db", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--clients", default=50, show_default=True, help="Connections.")
@click.option("--rate", default=250.0, show_default=True, help="Questions a second of all together; 0: no pause.")
@click.option("--seconds", default=60.0, show_default=True, help="How long to ask.")
def main(db: Path, clients: int, rate: float, seconds: float) -> None:
    """Ask small questions of WAREHOUSE over HTTP, and time the answers."""
    addresses = _addresses(db)
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = trial.getsockname()[1]
    command = [sys.executable, "-m", "selfrepair", "serve", "--db", str(db), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        click.echo(process.stdout.readline().strip())
        server = psutil.Process(process.pid)
        cold_s = asyncio.run(_ask_each(port, addresses))
        before, began = _used_s(server), time.perf_counter()
        found = asyncio.run(_ask(port, addresses, clients, rate, seconds))
        wall_s, used_s = time.perf_counter() - began, _used_s(server) - before
        process.send_signal(signal.SIGINT)
    click.echo(f"{len(addresses)} questions that nobody asked before: {len(addresses) / cold_s:,.0f} a second")
    ordered = sorted(found.took_s)
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    click.echo(f"processors {os.cpu_count()}, load of the machine {load}")
    click.echo(
        f"{len(addresses)} questions, {clients} clients: {len(ordered):,} answers, {len(ordered) / wall_s:,.0f} a second"
    )
    click.echo(
        f"median {1e3 * statistics.median(ordered):.1f} ms, 99 % below {1e3 * ordered[int(0.99 * (len(ordered) - 1))]:.1f} ms, "
        f"slowest {1e3 * ordered[-1]:.1f} ms"
    )
    click.echo(f"statuses {dict(found.statuses)}; processor time of the server {used_s:.1f} s in {wall_s:.0f} s")
    click.echo(f"errors: {len(found.errors)} {found.errors[:3] if found.errors else ''}")


def _addresses(db: Path) -> list[str]:
    """Small questions of every head, and a few of the whole file."""
    heads = Warehouse(db).sql("SELECT DISTINCT run_id, label FROM head_repair ORDER BY ALL").rows()
    found = [
        f"/api/v1/views/head_repair.json?{urlencode({'run': run, 'head': label, 'population': 'top2'})}"
        for run, label in heads[:200]
    ]
    found += [
        f"/api/v1/sql.json?{urlencode({'q': f'SELECT count(*) FROM units WHERE run_id = {run}'})}"
        for run, _ in heads[:1]
    ]
    return [*found, "/api/v1/runs.json", "/api/v1/questions.json", "/api/v1/views.csv"]


async def _ask_each(port: int, addresses: list[str]) -> float:
    """Ask everything once, ten at a time: what the server then knows. Returns the seconds it takes."""
    began, found, left = time.perf_counter(), Found(), list(addresses)

    async def ask() -> None:
        while left:
            await _client(0, port, [left.pop()], 0.0, began + 600, found, at_most=1)

    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(ask())
    assert not found.errors, found.errors[0]
    return time.perf_counter() - began


async def _ask(port: int, addresses: list[str], clients: int, rate: float, seconds: float) -> Found:
    found = Found()
    every_s = clients / rate if rate else 0.0
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(number, port, addresses, every_s, until, found))
    return found


async def _client(
    number: int,
    port: int,
    addresses: list[str],
    every_s: float,
    until: float,
    found: Found,
    at_most: int = sys.maxsize,
) -> None:
    dice, tags = random.Random(number), dict[str, str]()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = time.perf_counter() + dice.random() * every_s
    while at_most and (now := time.perf_counter()) < until:
        at_most -= 1
        if due > now:
            await asyncio.sleep(due - now)
        address = dice.choice(addresses)
        known = tags.get(address) if dice.randrange(CHANGED_IN) else None
        condition = f"If-None-Match: {known}\r\n" if known else ""
        began = time.perf_counter()
        writer.write(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{condition}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        found.took_s.append(time.perf_counter() - began)
        status = int(head[0].split()[1])
        found.statuses[status] += 1
        if not (status == 304 and known) and not (status == 200 and body):
            found.errors.append(f"{status} {address}: {body[:200]!r}")
        tags[address] = headers.get("etag", "")
        due = max(due + every_s, began)
    writer.close()


def _used_s(server: psutil.Process) -> float:
    """Processor time of the server and its processes [s]."""
    return sum(sum(each.cpu_times()[:2]) for each in (server, *server.children(recursive=True)))


if __name__ == "__main__":
    main()
