"""Show a run's progress: a bar with rows per second and time left on a terminal, a line a stage elsewhere."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

LINE_EVERY_S = 30.0


class _Count(ProgressColumn):
    """How many are done of how many; nothing where that is not known."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:,.0f}/{task.total:,.0f}")


class _Rate(ProgressColumn):
    """Rows, prompts or crosschecks per second since this command began."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


class TerminalProgress:
    """Implements `runner.Progress` on standard error; use it as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Count(),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._workers: dict[str, TaskID] = {}
        self._at: dict[str, str] = {}
        self._stage, self._total, self._done, self._noted_at = "", 0, 0, time.monotonic()

    def __enter__(self) -> "TerminalProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def stage(self, text: str, total: int | None = None, done: int = 0) -> None:
        """Begin a stage; a bar appears where there is a total."""
        self._stage, self._total, self._done, self._noted_at = text, total or 0, done, time.monotonic()
        if total is None or not self._console.is_terminal:
            self.note(text if total is None else f"{text}: {done:,} of {total:,} done")
        self._task = None if total is None else self._bar.add_task(text, total=total, completed=done)

    def advance(self, amount: int) -> None:
        """Add to the count."""
        self._done += amount
        if self._task is not None:
            self._bar.advance(self._task, amount)
        if not self._console.is_terminal and time.monotonic() - self._noted_at > LINE_EVERY_S:
            self._noted_at = time.monotonic()
            at = "".join(f"; {name} {text}" for name, text in self._at.items())
            self.note(f"{self._stage}: {self._done:,} of {self._total:,}{at}")

    def worker(self, name: str, text: str, total: int = 0, done: int = 0) -> None:
        """What one of several workers is at, on a line of its own; where there is no terminal, beside the count."""
        if name not in self._workers:
            self._workers[name] = self._bar.add_task(name, total=None)
        if self._at.get(name) != text:
            self._at[name] = text
            self._bar.reset(self._workers[name], total=total, description=f"{name}: {text}")
            if not total:  # the bar then says that the worker is at something; `reset` takes None as no change
                next(task for task in self._bar.tasks if task.id == self._workers[name]).total = None
        self._bar.update(self._workers[name], completed=done)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, highlight=False)
