"""Processes that begin with everything imported: a server imports once and forks one for each program.

A process that imports torch and transformers by itself spends ten times what a small ingest takes.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

TICK_S = 0.005

MEASURING = (
    "transformer_lens.model_bridge",
    "selfrepair.app.cli.run_report",
    "selfrepair.warehouse.schema.tables",
    "selfrepair.queries.marts.install",
    "selfrepair.queries.catalog.relations",
)
"""Modules of programs that measure a model."""

STORING = (
    "selfrepair.app.cli.main",
    "selfrepair.queries.cli.refresh",
    "selfrepair.queries.marts.install",
    "selfrepair.warehouse.cli.commands",
    "selfrepair.warehouse.load.removal",
    "selfrepair.warehouse.schema.tables",
    "selfrepair.queries.catalog.relations",
)
"""Modules of programs that write a warehouse; torch is not among them."""

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).parents[1]),
    "SLURM_CPUS_ON_NODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Process:
    """A forked program: what `subprocess.Popen` offers of it, as far as tests need it."""

    def __init__(self, folder: Path, number: int, pid: int, stdin: IO[str] | None = None) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = stdin
        self.stdout = self
        self._files = {name: folder / f"{number}.{name}" for name in ("out", "err", "code")}
        self._n_read = 0

    def readline(self) -> str:
        """The next line that it prints, waited for; what is left when it ends."""
        while True:
            has_ended = self.poll() is not None
            unread = self._files["out"].read_bytes()[self._n_read :]
            line, end, _ = unread.partition(b"\n")
            if end or has_ended:
                self._n_read += len(line + end)
                return (line + end).decode()
            time.sleep(TICK_S)

    def poll(self) -> int | None:
        """Its exit code, negative for a signal that ended it; None while it runs."""
        if self.returncode is None and self._files["code"].exists():
            self.returncode = int(self._files["code"].read_text())
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for its end; what it wrote."""
        if self.stdin is not None:
            self.stdin.close()
        self.wait(timeout)
        out = self._files["out"].read_bytes()[self._n_read :].decode()
        return out, self._files["err"].read_text()

    def wait(self, timeout: float = 300) -> int:
        """Its exit code, waited for."""
        by = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < by, f"process {self.pid} did not end within {timeout} s"
            time.sleep(TICK_S)
        return code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, unless it has ended."""
        self.send_signal(signal.SIGKILL)


class Server:
    """Forks programs; `start` runs one as `python -c` would."""

    def __init__(self, folder: Path, modules: Sequence[str] = MEASURING, options: Sequence[str] = ()) -> None:
        self._folder = folder
        self._n_started = 0
        self._server = subprocess.Popen(
            [sys.executable, "-P", *options, __file__, str(folder), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **_ENVIRONMENT},
        )

    def start(self, program: str, arguments: list[str], *, is_told: bool = False) -> Process:
        """Run `program` with these arguments; with `is_told` it reads what is written to `stdin`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._n_started += 1
        stdin = None
        if is_told:
            pipe = self._folder / f"{self._n_started}.in"
            os.mkfifo(pipe)
            stdin = os.fdopen(os.open(pipe, os.O_RDWR), "w")  # also for reading: it is open before the program opens it
        self._server.stdin.write(json.dumps([self._n_started, program, arguments]) + "\n")
        self._server.stdin.flush()
        return Process(self._folder, self._n_started, int(self._server.stdout.readline()), stdin)

    def stop(self) -> None:
        """End the server; its programs are over."""
        self._server.communicate()


@contextlib.contextmanager
def warm_server(folder: Path, modules: Sequence[str] = MEASURING, options: Sequence[str] = ()) -> Iterator[Server]:
    """A server that keeps what programs write in `folder`, has the modules imported, and is Python with these options."""
    server = Server(folder, modules, options)
    try:
        yield server
    finally:
        server.stop()


def _serve(folder: Path, modules: Sequence[str]) -> None:
    """Fork a program for every line that is read; a second process of each waits for it and writes its exit code."""
    for module in modules:
        importlib.import_module(module)
    sys.modules["selfrepair.queries.catalog.relations"].relations()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody is waited for here
    for line in sys.stdin:
        number, program, arguments = json.loads(line)
        pipe = folder / f"{number}.in"
        streams = [
            os.open(pipe if pipe.exists() else os.devnull, os.O_RDONLY),
            *(os.open(folder / f"{number}.{name}", os.O_WRONLY | os.O_CREAT) for name in ("out", "err")),
        ]
        reading, writing = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            pid = os.fork()
            if pid == 0:
                _run(streams, program, arguments)
            os.write(writing, f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            written = folder / f"{number}.code.part"
            written.write_text(str(os.waitstatus_to_exitcode(status)))
            written.rename(folder / f"{number}.code")
            os._exit(0)
        for descriptor in (writing, *streams):
            os.close(descriptor)
        sys.stdout.write(os.read(reading, 20).decode())
        sys.stdout.flush()
        os.close(reading)


def _run(streams: list[int], program: str, arguments: list[str]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    sys.stdin = os.fdopen(0, closefd=False)
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
    _serve(Path(sys.argv[1]), sys.argv[2:])
