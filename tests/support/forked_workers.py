"""Workers of a fleet that are forked by their driver instead of begun anew: they have everything imported that it has.

For programs of `warm`: a worker that imports torch by itself spends ten times what it measures.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from io import TextIOWrapper
from pathlib import Path

TICK_S = 0.005
_MOST_WORKERS = 12  # of a driver, those that take a killed one's place among them
_MOST_FILES = 4096


def install(pids: Path) -> None:
    """Have this process fork its workers; each makes a file in the folder `pids` that is called as its number.

    All are forked here, while there is one thread, and wait until they are begun: a fork beside threads has whatever locks
    these hold, for ever.
    """
    from selfrepair.ingest.fleet import processes, work, worker  # noqa: F401 (imported once, for all)

    assert threading.active_count() == 1, "a fork beside threads may hang"
    pids.mkdir(exist_ok=True)
    waiting: list[tuple[int, socket.socket]] = []
    for _ in range(_MOST_WORKERS):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            _wait_to_become(worker.main, theirs, [ours, *(other for _, other in waiting)], pids)
        theirs.close()
        waiting.append((pid, ours))

    class ForkedWorker:
        """What `processes` uses of `subprocess.Popen`."""

        def __init__(self, command: list[str], **_options: object) -> None:
            self._args = command
            self._code: int | None = None
            self._lock = threading.Lock()
            ends = [os.pipe() for _ in range(3)]
            (p_in, stdin), (stdout, p_out), (stderr, p_err) = ends
            self.pid, begin = waiting.pop()
            with begin:
                socket.send_fds(begin, [b"."], [p_in, p_out, p_err])
            for descriptor in (p_in, p_out, p_err):
                os.close(descriptor)
            self.stdin = _opened(stdin, "w")
            self.stdout, self.stderr = _opened(stdout, "r"), _opened(stderr, "r")

        def wait(self, timeout: float | None = None) -> int:
            by = None if timeout is None else time.monotonic() + timeout
            while (code := self._poll()) is None:
                if by is not None and time.monotonic() > by:
                    raise subprocess.TimeoutExpired(self._args, timeout or 0.0)
                time.sleep(TICK_S)
            return code

        def _poll(self) -> int | None:
            with self._lock:  # several threads wait for it
                if self._code is None:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                    self._code = os.waitstatus_to_exitcode(status) if pid else None
                return self._code

        def kill(self) -> None:
            if self._poll() is None:
                os.kill(self.pid, signal.SIGKILL)

    class Forking:
        """The module `subprocess`, as `processes` sees it."""

        Popen = ForkedWorker
        PIPE, TimeoutExpired = subprocess.PIPE, subprocess.TimeoutExpired

    processes.subprocess = Forking  # type: ignore[assignment]


def _wait_to_become(main: object, begun: socket.socket, others: list[socket.socket], pids: Path) -> None:
    """In the child: nothing until it is given its pipes, then what `start_new_session` and a new program give it, and the
    worker's program. A driver that ends without it ends it.
    """
    assert callable(main)
    code = 1
    try:
        for other in others:  # or this one would keep its brothers from seeing that their driver is gone
            other.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's
        said, descriptors, _, _ = socket.recv_fds(begun, 1, 3)
        if not said:
            os._exit(0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        (pids / str(os.getpid())).touch()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        os.closerange(3, _MOST_FILES)  # the driver's ends of other workers' pipes, which must end with it
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        main()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def _opened(descriptor: int, mode: str) -> TextIOWrapper:
    return open(descriptor, mode, encoding="utf-8", errors="replace")
