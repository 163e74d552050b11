"""The driver's side of a worker's process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from selfrepair.ingest.fleet.messages import Order, write_message
from selfrepair.ingest.request.devices import WorkerDevice
from selfrepair.warehouse.parts.records import RunRecord

if TYPE_CHECKING:
    from selfrepair.ingest.fleet.driver import Inbox

GRACE_S = 5.0
"""How long a worker may take to end after its input has [s]; it ends at once unless its machine is at its limit."""

_COMMAND = [sys.executable, "-P", "-m", "selfrepair.ingest.fleet.worker"]  # -P: a user's own torch.py is not torch
_LINES_KEPT = 20


class Machine:
    """Devices of this machine, with a process each: the Place of a `Fleet`, whose workers all see its files."""

    advice = "If memory ran out, name fewer processes with --devices."
    hosts: Sequence[str] = ()

    def __init__(self, devices: Sequence[WorkerDevice]) -> None:
        self.devices = devices

    def workers(self, order: Callable[[WorkerDevice], Order], inbox: "Inbox") -> "Iterator[WorkerProcess]":
        """Start the processes, one after the other."""
        for device in self.devices:
            yield WorkerProcess(device, order(device), inbox, _cpu_threads(device, self.devices))

    def replacement(self, worker: object, order: Callable[[WorkerDevice], Order], inbox: "Inbox") -> None:
        """None: what ended a process of this machine would end the next one."""

    def begin(self, record: RunRecord, prompts: Sequence[int]) -> None:
        """The run was planned."""

    def carried(self, kind: str, devices: str | None = None) -> dict[str, Any]:
        """Commands carry nothing: what there is, is on this machine's disk."""
        return {}

    def finish(self) -> None:
        """The run is measured: nothing is to be done."""


class WorkerProcess:
    """A worker that was started: its messages come into `inbox` beside it, at its end None.

    It is in a session of its own: Ctrl-C is the driver's, whose end it notices by its input's.
    """

    def __init__(self, device: WorkerDevice, order: Order, inbox: "Inbox", threads: int | None) -> None:
        self.name = device.name
        self._inbox = inbox
        self._said: deque[str] = deque(maxlen=_LINES_KEPT)
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env={"OMP_NUM_THREADS": str(threads), **os.environ} if threads else None,
        )
        self.pid = self._process.pid
        self.title = f"{self.name} (process {self.pid})"
        self._stderr = threading.Thread(target=self._keep_last_lines, daemon=True)
        self._stderr.start()
        threading.Thread(target=self._receive, daemon=True).start()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is over already, which `_receive` tells
            self._process.stdin.write(json.dumps(asdict(order)) + "\n")
            self._process.stdin.flush()

    def send(self, kind: str, **values: Any) -> None:
        """Send a command. That the worker is over is told by its None in the inbox."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            write_message(self._process.stdin, kind, **values)

    def close(self) -> None:
        """Tell it to end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self) -> None:
        """Wait until it has ended; kill it where it does not."""
        try:
            self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def fate(self) -> str:
        """How it ended, in words."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"was killed by {name}{', as when memory runs out' if -code == signal.SIGKILL else ''}"
        return f"ended: {self._said[-1].rstrip('.')}" if self._said else f"ended with exit code {code}"

    def _keep_last_lines(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            for line in stderr:
                self._said += [text for text in (line.strip(),) if text]

    def _receive(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout, contextlib.suppress(ValueError):  # killed, it may leave half a line
            for line in stdout:
                self._inbox.put((self, json.loads(line)))
        self._process.wait()
        self._stderr.join(GRACE_S)
        self._inbox.put((self, None))


def _cpu_threads(device: WorkerDevice, devices: Sequence[WorkerDevice]) -> int | None:
    """Threads of a worker on the CPU, which shares the cores with others there; None: as torch has it."""
    if device.device != "cpu":
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // sum(one.device == "cpu" for one in devices))
