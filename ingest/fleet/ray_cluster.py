"""Workers on the nodes of a Ray cluster: an actor each, which measures into its node's own disk and delivers finished units.

Ray brings orders, commands and messages; units go through the `mailbox`, whatever their size.
"""

import contextlib
import importlib.metadata
import logging
import os
import queue
import re
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from selfrepair.ingest import compat
from selfrepair.ingest.fleet.exchange import Exchange
from selfrepair.ingest.fleet.mailbox import LostUnitError, Mailbox, MailboxError
from selfrepair.ingest.fleet.messages import Order
from selfrepair.ingest.request.cluster import LOCAL
from selfrepair.ingest.request.devices import WorkerDevice
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.runs.stored import all_cuts
from selfrepair.warehouse.errors import SelfRepairError, again
from selfrepair.warehouse.parts.records import RunRecord

_WAIT_S = 30.0
"""How long a worker may take to start before it is said that it waits for room on its node [s]."""

_MOST_REPLACED = 2
"""So many times as there are workers, one that was lost is replaced: what kills each anew is told in the end."""

_CANNOT_START = "cannot start"
_GRACE_S = 5.0
_CONNECT_S = 5.0
_STORE_BYTES = 200_000_000
"""Ray's memory for objects in a cluster of this command's own; messages are small."""

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is reported to Ray's makers, nor logged into the command's own messages, unless the user says otherwise."""


@dataclass(frozen=True)
class Spot:
    """Where an actor goes: so many GPUs and cores of a node."""

    name: str
    node_id: str
    host: str
    gpus: int
    cores: int
    threads: int | None


class RayCluster:
    """The workers of a run on a cluster, while it is entered; `mailbox` is where they deliver. The Place of a `Fleet`."""

    advice = "If memory ran out, give each worker more cores with --ray-cpus, so that there are fewer."

    def __init__(self, address: str, cores: int | None, mailbox: Mailbox) -> None:
        self._address, self._cores, self._mailbox = address, cores, mailbox
        self._spots: list[Spot] = []
        self._exchange: Exchange | None = None
        self._sign: tuple[str, str] | None = None
        self._cuts: dict[str, tuple[int, int | None]] = {}
        self._left = 0

    def __enter__(self) -> "RayCluster":
        """Connect. Raises SelfRepairError where there is no cluster, no room in it, or a mailbox that cannot be written."""
        import ray

        try:
            self._mailbox.sweep_signs()
            self._sign = self._mailbox.sign()  # before the cluster is started, which takes seconds
            _connect(self._address)
            self._spots = _spots(ray.nodes(), self._cores)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import ray

        if self._sign is not None:
            self._mailbox.remove(self._sign[0])
        self._mailbox.clean()
        ray.shutdown()

    @property
    def devices(self) -> list[WorkerDevice]:
        """A device for each worker, as it is called in its node."""
        return [WorkerDevice(spot.name, "cuda" if spot.gpus else "cpu") for spot in self._spots]

    @property
    def hosts(self) -> list[str]:
        """The machines of the workers."""
        return sorted({spot.host for spot in self._spots})

    def workers(self, order: Callable[[WorkerDevice], Order], inbox: "queue.SimpleQueue[Any]") -> "Iterator[RayWorker]":
        """Start the workers, one after the other."""
        assert self._sign is not None, "a cluster is entered first"
        first = order(self.devices[0])
        parts, db = Path(first.parts), Path(first.db)
        recorded = None if first.parts_to_record is None else Path(first.parts_to_record)
        self._exchange = Exchange(self._mailbox, parts, db, IngestRequest(**first.request).command(recorded))
        cuts = {key: (cut.n_units, cut.rows_in_unit) for key, cut in all_cuts(parts, db).items()}
        self._cuts = cuts
        self._left = _MOST_REPLACED * len(self._spots)
        for spot in self._spots:
            yield self._start(spot, order, inbox)

    def replacement(
        self, worker: Any, order: Callable[[WorkerDevice], Order], inbox: "queue.SimpleQueue[Any]"
    ) -> "RayWorker | None":
        """One where a worker was, whose process was killed, or where there is room now if its node is gone; None where a worker
        ended by itself, as for want of memory on its device, or too many were lost.
        """
        import ray

        if not worker.was_lost or self._left <= 0:
            return None
        try:
            spot = _spot_instead(worker.spot, self._spots, _spots(ray.nodes(), self._cores))
        except Exception:  # the cluster is gone, or has no room
            return None
        if spot is None:
            return None
        self._left -= 1
        self._spots[self._spots.index(worker.spot)] = spot
        return self._start(spot, order, inbox)

    def _start(
        self, spot: Spot, order: Callable[[WorkerDevice], Order], inbox: "queue.SimpleQueue[Any]"
    ) -> "RayWorker":
        assert self._sign is not None
        assert self._exchange is not None
        device = WorkerDevice(spot.name, "cuda" if spot.gpus else "cpu")
        return RayWorker(
            spot, replace(order(device), cuts=self._cuts), inbox, self._exchange, self._mailbox, self._sign
        )

    def begin(self, record: RunRecord, prompts: Sequence[int]) -> None:
        """The run was planned."""
        assert self._exchange is not None
        self._exchange.begin(record, prompts)

    def carried(self, kind: str, devices: str | None = None) -> dict[str, Any]:
        """What a command carries besides."""
        assert self._exchange is not None
        return self._exchange.carried(kind, devices)

    def finish(self) -> None:
        """The run is measured, and no worker is left."""
        if self._exchange is not None:
            self._exchange.finish()


class RayWorker:
    """A worker in an actor: its messages come into `inbox` beside it, at its end None."""

    def __init__(
        self,
        spot: Spot,
        order: Order,
        inbox: "queue.SimpleQueue[Any]",
        exchange: Exchange,
        mailbox: Mailbox,
        sign: tuple[str, str],
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from selfrepair.ingest.fleet.actor import Actor

        self.name = self.title = spot.name
        self.was_lost = False
        self.spot, self._order, self._inbox, self._exchange = spot, order, inbox, exchange
        self._mailbox, self._sign = mailbox, sign
        self._fate = "ended"
        self._stopped: Any = None
        self._actor: Any = (
            ray.remote(Actor)
            .options(
                num_gpus=spot.gpus,
                num_cpus=spot.cores,
                max_concurrency=4,
                scheduling_strategy=NodeAffinitySchedulingStrategy(spot.node_id, soft=False),
            )
            .remote()
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def send(self, kind: str, **values: Any) -> None:
        """Send a command. That the worker is over is told by its None in the inbox."""
        self._actor.send.remote({"kind": kind, **values})

    def close(self) -> None:
        """Tell it to end."""
        with contextlib.suppress(Exception):  # the cluster is gone
            self._stopped = self._actor.stop.remote()

    def wait(self) -> None:
        """Wait until it has ended; kill it where it does not."""
        import ray

        with contextlib.suppress(Exception):
            ray.wait([self._stopped], timeout=_GRACE_S)
        self._kill()
        self._thread.join(_GRACE_S)

    def fate(self) -> str:
        """How it ended, in words."""
        return self._fate

    def _run(self) -> None:
        from ray.exceptions import RayError

        try:
            if self._is_met():
                self._receive()
        except SelfRepairError as error:
            self._inbox.put((self, {"kind": "refused", "text": f"{self.name}: {error}"}))
        except RayError as error:
            self._fate = _fate_of(error)
            self.was_lost = not self._fate.startswith(_CANNOT_START)
        except Exception as error:
            self._fate = f"ended: {type(error).__name__}: {error}"
        finally:  # or the driver would wait for ever
            self._kill()
            self._inbox.put((self, None))

    def _kill(self) -> None:
        """End its process, which may be there though it is of no use any more, and give back its GPU."""
        import ray

        with contextlib.suppress(Exception):  # the cluster is gone
            ray.kill(self._actor)

    def _is_met(self) -> bool:
        """Whether it is there and may measure. Raises SelfRepairError where it does not see the mailbox."""
        import ray

        asked = self._actor.greet.remote(self._mailbox.address, self._sign)
        if not ray.wait([asked], timeout=_WAIT_S)[0]:
            text = "waits for room on its node, which other work may have; the others go on without it"
            self._inbox.put((self, {"kind": "note", "text": text}))
        found = ray.get(asked)
        own = importlib.metadata.version("selfrepair")
        if found["selfrepair"] != own:
            other = found["selfrepair"]
            self._fate = (
                f"is refused: {found['host']} has selfrepair {other}, this machine {own}. Install the same on both"
            )
            return False
        if "error" in found:
            raise SelfRepairError(found["error"])
        is_seen = self._mailbox.sees(found["sign"])
        self._mailbox.remove(found["sign"][0])
        if not (found["sees"] and is_seen):
            raise SelfRepairError(
                f"{found['host']} and {socket.gethostname()} do not see each other's files in {self._mailbox.address}: it is "
                "another folder on each. Name one that all share with --parts, or a bucket such as --parts s3://bucket/folder."
            )
        self.title = f"{self.name} (process {found['pid']})"
        ray.get(
            self._actor.start.remote(asdict(self._order), self._mailbox.address, str(Path.cwd()), self.spot.threads)
        )
        return True

    def _receive(self) -> None:
        import ray

        while True:
            for message in ray.get(self._actor.receive.remote()):
                if message["kind"] == "ended":
                    self._fate = f"ended: {message['text'].rstrip('.')}"
                    return
                if message["kind"] == "refused":
                    message["text"] = f"{self.name}: {message['text']}"
                try:
                    self._exchange.take(message)
                except (LostUnitError, MailboxError) as error:
                    self._fate = f"ended: {str(error).rstrip('.')}"
                    return
                self._inbox.put((self, message))


def _connect(address: str) -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.exceptions import RayError

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    found = _found(address)
    with _captured_stderr() as said:
        try:
            if found is None:
                ray.init("local", include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)
            else:
                with compat.ray_tries_for(_CONNECT_S):
                    ray.init(found, **quiet)
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            text = f"{error} {said()}"
            if "token" in text.lower():
                raise SelfRepairError(
                    f"--ray {address}: the cluster does not take this machine's token. Give it the cluster's, in "
                    f"RAY_AUTH_TOKEN or ~/.ray/auth_token, with RAY_AUTH_MODE=token; then {again()}."
                ) from error
            raise SelfRepairError(f"--ray {address}: {' '.join(str(error).split())[:500]}") from error


@contextlib.contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """What Ray's own libraries write to standard error goes into a file, whose text the value returns."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 100_000, 0).decode(errors="replace")
        finally:
            os.dup2(before, 2)
            os.close(before)


def _found(address: str) -> str | None:
    """The address of the running cluster; None: one of this command's own is started."""
    try:
        found = address if "://" in address else compat.ray_address(None if address == LOCAL else address)
    except ConnectionError as error:
        raise SelfRepairError(_no_cluster(address, "none runs on this machine")) from error
    if found is None or _answers(found):
        return found
    if address == LOCAL and "RAY_ADDRESS" not in os.environ:  # one that was killed
        return None
    raise SelfRepairError(_no_cluster(address, f"nothing answers at {found} as Ray does"))


def _no_cluster(address: str, why: str) -> str:
    return (
        f"--ray {address}: no Ray cluster was found, {why}. Start one (ray start --head) and name its address, such as --ray "
        "10.0.0.1:6379, or leave the address out to use this machine alone."
    )


def _answers(address: str) -> bool:
    """Whether a server of gRPC listens there, as those of Ray are; its own client would try for minutes."""
    if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
        return True
    host, _, port = address.rpartition("://")[2].strip("/").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            header = connection.recv(9)
    except (OSError, ValueError):
        return False
    return len(header) == 9 and header[3] == 4  # the frame of HTTP/2's settings


def _spots(nodes: Sequence[dict[str, Any]], cores: int | None) -> list[Spot]:
    """A GPU each, or `cores` of a node; without either all cores of each node."""
    alive = [node for node in nodes if node["Alive"]]
    has_gpus = cores is None and any(node["Resources"].get("GPU", 0) >= 1 for node in alive)
    twice = Counter(node["NodeManagerHostname"] for node in alive)
    seen: Counter[str] = Counter()
    found: list[Spot] = []
    for node in sorted(alive, key=lambda node: (node["NodeManagerHostname"], node["NodeID"])):
        host, resources = node["NodeManagerHostname"], node["Resources"]
        seen[host] += 1
        called = f"{host} (node {seen[host]})" if twice[host] > 1 else host
        n_gpus, n_cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
        each = cores or max(1, n_cores)
        count, kind = (n_gpus, "GPU") if has_gpus else (n_cores // each, "CPU")
        threads = max(1, n_cores // max(1, count)) if has_gpus else None  # Ray tells those on the CPU
        for number in range(1, count + 1):
            name = f"{called} {kind} {number} of {count}" if count > 1 else called
            spot = Spot(name, node["NodeID"], host, int(has_gpus), 0 if has_gpus else each, threads)
            found.append(spot)
    if not found:
        have = ", ".join(f"{node['NodeManagerHostname']} {int(node['Resources'].get('CPU', 0))}" for node in alive)
        raise SelfRepairError(
            f"no node of the cluster has {cores or 1} cores for a worker (cores: {have}). Use a smaller --ray-cpus, or add "
            "nodes."
        )
    return found


def _spot_instead(lost: Spot, taken: Sequence[Spot], there: Sequence[Spot]) -> Spot | None:
    """Where the worker goes that replaces the one at `lost`: there, if its node is among those that are `there` now, or else to
    a node with more room than the spots that are `taken` have.
    """
    room = Counter(spot.node_id for spot in there)
    if lost.node_id in room:
        return lost
    used = Counter(spot.node_id for spot in taken)
    names = {spot.name for spot in taken if spot != lost}
    free = [spot for spot in there if used[spot.node_id] < room[spot.node_id]]
    again = [replace(spot, name=f"{spot.name}, again") for spot in free]  # names tell workers apart
    return next((spot for spot in (*free, *again) if spot.name not in names), None)


def _fate_of(error: Exception) -> str:
    """Why an actor ended, in words."""
    from ray.exceptions import NodeDiedError, OutOfMemoryError

    text = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError) or "OOM" in text or "memory pressure" in text:
        return "was killed: the memory of its node ran out"
    if isinstance(error, NodeDiedError) or (
        "node" in text.lower() and "died" in text.lower() and "node has died" in text
    ):
        return "ended: its node went down"
    if (missing := re.search(r"No module named '?([\w.]+)", text)) is not None:
        return f"{_CANNOT_START}: {missing[1].rstrip('.')} is not installed on its node"
    return "was killed, or its node went down"
