"""Processes that begin with everything imported: a server imports once and forks one for each program.

A process that imports torch and transformers by itself spends ten times what a small ingest takes.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

TICK_S = 0.005


class Process:
    """A forked program: what `subprocess.Popen` offers of it, as far as tests need it."""

    def __init__(self, folder: Path, number: int, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._files = {name: folder / f"{number}.{name}" for name in ("out", "err", "code")}

    def poll(self) -> int | None:
        """Its exit code, negative for a signal that ended it; None while it runs."""
        if self.returncode is None and self._files["code"].exists():
            self.returncode = int(self._files["code"].read_text())
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; what it wrote."""
        by = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < by, f"process {self.pid} did not end within {timeout} s"
            time.sleep(TICK_S)
        return self._files["out"].read_text(), self._files["err"].read_text()

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Server:
    """Forks programs; `start` runs one as `python -c` would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n_started = 0
        self._server = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def start(self, program: str, arguments: list[str]) -> Process:
        """Run `program` with these arguments."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._n_started += 1
        self._server.stdin.write(json.dumps([self._n_started, program, arguments]) + "\n")
        self._server.stdin.flush()
        return Process(self._folder, self._n_started, int(self._server.stdout.readline()))

    def stop(self) -> None:
        """End the server; its programs are over."""
        self._server.communicate()


@contextlib.contextmanager
def warm_server(folder: Path) -> Iterator[Server]:
    """A server that keeps what programs write in `folder`."""
    server = Server(folder)
    try:
        yield server
    finally:
        server.stop()


def _serve(folder: Path) -> None:
    """Fork a program for every line that is read; a second process of each waits for it and writes its exit code."""
    import transformer_lens.model_bridge  # noqa: F401

    from selfrepair.queries.catalog.relations import relations

    relations()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody is waited for here
    for line in sys.stdin:
        number, program, arguments = json.loads(line)
        reading, writing = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                _run(folder, number, program, arguments)
            os.write(writing, f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            written = folder / f"{number}.code.part"
            written.write_text(str(os.waitstatus_to_exitcode(status)))
            written.rename(folder / f"{number}.code")
            os._exit(0)
        os.close(writing)
        sys.stdout.write(os.read(reading, 20).decode())
        sys.stdout.flush()
        os.close(reading)


def _run(folder: Path, number: int, program: str, arguments: list[str]) -> None:
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / f"{number}.{name}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["-c", *arguments]
    code = 1
    try:
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as Python itself would say it
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
