"""Commands that are killed at random moments, or run out of disk, and are given again: rows and summaries must then be those
of a command that nothing stopped. As a script it stops so many, `make kills` with KILLS=200; a seed repeats its moments.
"""

import argparse
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from selfrepair.warehouse.verify.verification import verify
from support import templates
from support.contents import Contents, contents, differences
from support.fabricate import fabricate
from support.loaded import load_rows, stored
from support.version_0_1 import unpacked
from support.warm import Process, Server, warm_server

DB = "w.duckdb"
COMMANDS = ("ingest", "load", "refresh", "remove", "upgrade")
_MOST_STOPS = 3  # of one command, before it is left alone
_SHARE_OF_FULL_DISKS = 0.3
_ROOM = 400_000_000
_PROGRAM = (
    "import selfrepair.warehouse.load.loader as loader; loader.ROWS_PER_TRANSACTION = 1; "
    "import sys; 'ingest' in sys.argv and exec('import selfrepair.ingest.runs.plan as plan; plan.ROWS_IN_UNIT = 600'); "
    "from selfrepair.app.cli.main import main; main()"
)
"""The command line, with small transactions and units: more moments to be stopped between."""

_MODEL = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from support import tiny; "
    "tiny.save(Path(sys.argv[2])); tiny.write_texts(Path(sys.argv[3]))"
)


def before(command: str, db: Path, *, n_units: int = 1) -> list[str]:
    """Make a file, its part files or both as they are before `command`, which is returned without its --db."""
    root = db.with_name(f"{db.name}.parts")
    runs = [fabricate(key, model=key, n_units=n_units) for key in ("run-a", "run-b")]
    if command == "upgrade":
        folder = unpacked(db.parent)
        shutil.move(folder / "warehouse.duckdb", db)
        shutil.move(folder / "warehouse.duckdb.parts", root)
        shutil.rmtree(folder)
        return ["load"]
    if command == "load":
        for run in runs:
            run.write(root)
        return ["load"]
    if command == "refresh":
        load_rows(db, fabricate(n_units=n_units).write(root).root)
        return ["refresh"]
    stored(db.parent, *runs)
    with duckdb.connect(str(db)) as con:
        con.execute("DELETE FROM selfrepair_marts.refreshed")
    runs[0].write(root)
    return ["remove", "1", "--yes"]


@dataclass(frozen=True)
class Case:
    """A command and the folder it begins with; what it makes of that and which files it leaves, in how long [s]."""

    name: str
    line: list[str]
    folder: Path
    expected: Contents
    files: set[str]
    seconds: float
    n_bytes: int


def main() -> int:
    """Stop commands; returns how many came to something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=200, help="how many to stop")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    draw = random.Random(given.seed)
    can_mount = sys.platform == "linux" and os.geteuid() == 0
    print(f"{given.n} commands to stop, --seed {given.seed}", flush=True)
    if not can_mount:
        print("no disk is full among them: that takes root on Linux, which mounts small ones")
    stopped = {"killed": 0, "disk full": 0, "over before": 0}
    failures = 0
    with tempfile.TemporaryDirectory(prefix="selfrepair-kills-") as made:
        base = Path(made)
        templates.share(base / "templates")
        (base / "processes").mkdir()
        with warm_server(base / "processes") as server:
            cases = [_case(server, base / "before" / name, name) for name in COMMANDS]
            for number, case in zip(range(given.n), itertools.cycle(cases)):
                is_full = draw.random() < _SHARE_OF_FULL_DISKS and can_mount
                with _disk(base / "stopped", is_limited=is_full) as folder:
                    shutil.copytree(case.folder, folder, dirs_exist_ok=True)
                    told = _stop(server, case, folder, draw, stopped, is_full=is_full)
                    told += _finish(server, case, folder)
                    if told:
                        failures += 1
                        print(f"stop {number}, {case.name}, {'disk full' if is_full else 'killed'}:", *told, sep="\n  ")
                        shutil.copytree(folder, Path(tempfile.gettempdir()) / f"selfrepair-stop-{given.seed}-{number}")
                if number % 20 == 19:
                    print(f"{number + 1}: {stopped}, {failures} came to something else", flush=True)
    print(f"{stopped}; {failures} came to something else")
    return failures


def _case(server: Server, folder: Path, name: str) -> Case:
    folder.mkdir(parents=True)
    if name == "ingest":
        model, texts = str(folder.parent / "tiny"), str(folder.parent / "texts.jsonl")
        made = server.start(_MODEL, [str(Path(__file__).parents[1]), model, texts])  # torch is imported there
        made.communicate()
        assert made.returncode == 0
        line = ["ingest", "--model", model, "--dataset", texts, "--device", "cpu"]
        line += ["--prompts", "8", "--seq-len", "12", "--batch-size", "6"]
    else:
        line = before(name, folder / DB, n_units=4)
    unbroken = folder.with_name(f"{name} unbroken")
    shutil.copytree(folder, unbroken)
    began = time.monotonic()
    process = _start(server, line, unbroken)
    _, err = process.communicate()
    assert process.returncode == 0, err
    seconds = time.monotonic() - began
    n_bytes = sum(path.stat().st_size for path in unbroken.rglob("*") if path.is_file())
    return Case(name, line, folder, contents(unbroken / DB), _files(unbroken), seconds, n_bytes)


def _start(server: Server, line: list[str], folder: Path) -> Process:
    return server.start(_PROGRAM, [*line, "--db", str(folder / DB)])


def _stop(
    server: Server, case: Case, folder: Path, draw: random.Random, stopped: dict[str, int], *, is_full: bool
) -> list[str]:
    """Stop the command once or more; what it should not have said at that."""
    told = []
    for _ in range(draw.randint(1, _MOST_STOPS)):
        if is_full:
            used = shutil.disk_usage(folder).used
            _resize(folder, used + draw.randrange(4096, 2 * case.n_bytes))
        process = _start(server, case.line, folder)
        if not is_full:
            by = time.monotonic() + draw.uniform(0, case.seconds)
            while process.poll() is None and time.monotonic() < by:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        if process.returncode == 0:
            stopped["over before"] += 1
            break
        stopped["disk full" if is_full else "killed"] += 1
        if (is_full and process.returncode not in (0, 1)) or "Traceback" in err:
            told.append(f"ended with {process.returncode}: {err[-2000:]}")
    if is_full:
        _resize(folder, _ROOM)
    return told


def _finish(server: Server, case: Case, folder: Path) -> list[str]:
    """Give the command once more; what is then other than it should be."""
    process = _start(server, case.line, folder)
    _, err = process.communicate()
    if process.returncode != 0:
        return [f"given again it ended with {process.returncode}: {err[-2000:]}"]
    other = [f"other rows: {name}" for name in differences(contents(folder / DB), case.expected)]
    broken = [f"verify: {check}" for check in verify(folder / DB) if not check.ok]
    left = [f"left over: {path}" for path in sorted(_files(folder) - case.files)]
    return other + broken + left


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextmanager
def _disk(folder: Path, *, is_limited: bool) -> Iterator[Path]:
    """An empty folder, on a disk of its own whose size can be set."""
    folder.mkdir()
    if is_limited:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        if is_limited:
            subprocess.run(["umount", str(folder)], check=True)
        shutil.rmtree(folder)


def _resize(folder: Path, n_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={n_bytes}", str(folder)], check=True)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
