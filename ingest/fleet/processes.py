"""The driver's side of a worker's process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias

from selfrepair.ingest.fleet.messages import Order, write_message
from selfrepair.ingest.request.devices import WorkerDevice

if TYPE_CHECKING:
    import queue

    from selfrepair.ingest.fleet.messages import Message

GRACE_S = 5.0
"""How long a worker may take to end after its input has [s]; it ends at once unless its machine is at its limit."""

_COMMAND = [sys.executable, "-P", "-m", "selfrepair.ingest.fleet.worker"]  # -P: a user's own torch.py is not torch
_LINES_KEPT = 20

Inbox: TypeAlias = "queue.SimpleQueue[tuple[WorkerProcess, Message | None]]"


class WorkerProcess:
    """A worker that was started: its messages come into `inbox` beside it, at its end None.

    It is in a session of its own: Ctrl-C is the driver's, whose end it notices by its input's.
    """

    def __init__(self, device: WorkerDevice, order: Order, inbox: Inbox, threads: int | None) -> None:
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
