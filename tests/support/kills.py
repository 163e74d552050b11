"""Commands that are killed at random moments, or run out of disk, and are given again: rows and summaries must then be those
of a command that nothing stopped. As a script it stops so many, `make kills` with KILLS=200, of all commands or of those that
KILLS_OF names; a seed repeats its moments. It ends with a line of what it did, and with 1 where something went wrong.

Of `lake` and `postgres`, which are stopped only where KILLS_OF names them, a load into a lake whose catalog is a file, or in
a Postgres that is started for it. Of `fleet`, an ingest by two processes, a worker is killed, or the driver, or the driver is
asked to end (SIGTERM, SIGINT).
"""

import argparse
import itertools
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import psutil

from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.load.cleaning import clean
from selfrepair.warehouse.verify.verification import verify
from support import templates
from support.contents import Contents, contents, differences
from support.fabricate import fabricate
from support.lakes import lake_contents, new_database, postgres, unknown_files
from support.loaded import load_rows, stored
from support.version_0_1 import unpacked
from support.warm import Process, Server, warm_server

DB = "w.duckdb"
COMMANDS = ("ingest", "fleet", "load", "refresh", "remove", "upgrade")
LAKES = ("lake", "postgres")
_MOST_STOPS = 3  # of one command, before it is left alone
_SHARE_OF_FULL_DISKS = 0.3
_ROOM = 400_000_000
_PROGRAM = (
    "import selfrepair.warehouse.load.loader as loader; loader.ROWS_PER_TRANSACTION = 1; "
    "import sys; 'ingest' in sys.argv and exec('import selfrepair.ingest.runs.plan as plan; plan.ROWS_IN_UNIT = 600'); "
    "from selfrepair.app.cli.main import main; main()"
)
"""The command line, with small transactions and units: more moments to be stopped between."""

_FLEET = (
    "import signal, sys; from pathlib import Path; sys.path.insert(0, {tests!r}); "
    "signal.signal(signal.SIGINT, signal.default_int_handler); "  # begun in the background, it would be ignored
    "from support import forked_workers; forked_workers.install(Path(sys.argv[-1] + '.pids')); "
)
"""What goes before it for a fleet."""

_SUMS = ("selfrepair_marts.neuron_totals", "selfrepair_marts.repair_edges")
"""Sums of float32 numbers that nearly cancel, which workers add in any order."""

_ENDED_IN_S = 20.0
"""How long a worker may outlive its driver."""

_LONGEST_S = 300.0
"""How long a command may take before it is taken to hang [s]."""

_MODEL = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from support import tiny; "
    "tiny.save(Path(sys.argv[2])); tiny.write_texts(Path(sys.argv[3]))"
)


_server: dict[str, str] = {}
_databases: dict[Path, str] = {}
_numbers = itertools.count(1)


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
    if command in ("load", *LAKES):
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

    @property
    def is_fleet(self) -> bool:
        return self.name == "fleet"


def main() -> int:
    """Stop commands; returns how many came to something else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int, nargs="?", default=200, help="how many to stop")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--of", nargs="+", choices=(*COMMANDS, *LAKES), default=COMMANDS, help="which commands")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no small disk stays mounted
    draw = random.Random(given.seed)
    can_mount = sys.platform == "linux" and os.geteuid() == 0
    print(f"{given.n} commands to stop of {', '.join(given.of)}, --seed {given.seed}", flush=True)
    if not can_mount:
        print("no disk is full among them: that takes root on Linux, which mounts small ones")
    stopped: Counter[str] = Counter()
    failures, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="selfrepair-kills-") as made, ExitStack() as during:
        base = Path(made)
        if "postgres" in given.of:
            _server["dsn"] = during.enter_context(postgres(base))
        templates.share(base / "templates")
        (base / "processes").mkdir()
        with warm_server(base / "processes") as server:
            cases = [_case(server, base / "before" / name, name) for name in given.of]
            began = time.monotonic()
            for number, case in zip(range(given.n), itertools.cycle(cases)):
                is_full = draw.random() < _SHARE_OF_FULL_DISKS and can_mount
                with _disk(base / "stopped", is_limited=is_full) as folder:
                    shutil.copytree(case.folder, folder, dirs_exist_ok=True)
                    _databases.pop(folder, None)
                    try:
                        told = _stop(server, case, folder, draw, stopped, is_full=is_full)
                        told += _finish(server, case, folder)
                    except Exception:  # such as of a command that hangs: the others are stopped nevertheless
                        told = [traceback.format_exc()]
                    if told:
                        failures += 1
                        kept = Path(tempfile.gettempdir()) / f"selfrepair-stop-{given.seed}-{number}"
                        shutil.copytree(folder, kept, dirs_exist_ok=True)
                        print(
                            f"stop {number}, {case.name}, {'disk full' if is_full else 'killed'}, {kept}:", flush=True
                        )
                        print(*told, sep="\n  ", flush=True)
                if number % 20 == 19:
                    print(f"{number + 1}: {_counted(stopped)}, {failures} came to something else", flush=True)
    each = (time.monotonic() - began) / max(1, given.n)
    print(
        f"{given.n} commands stopped and given again, --seed {given.seed}, {each:.1f} s each: {_counted(stopped)}; "
        f"{failures} came to something else"
    )
    return failures


def _counted(stopped: "Counter[str]") -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(stopped.items()))


def _case(server: Server, folder: Path, name: str) -> Case:
    folder.mkdir(parents=True)
    if name in ("ingest", "fleet"):
        model, texts = str(folder.parent / "tiny"), str(folder.parent / "texts.jsonl")
        made = server.start(_MODEL, [str(Path(__file__).parents[1]), model, texts])  # torch is imported there
        made.communicate()
        assert made.returncode == 0
        line = ["ingest", "--model", model, "--dataset", texts]
        line += ["--device", "cpu"] if name == "ingest" else ["--devices", "cpu:2"]
        line += ["--prompts", "8", "--seq-len", "12", "--batch-size", "6"]
    else:
        line = before(name, folder / DB, n_units=4)
    unbroken = folder.with_name(f"{name} unbroken")
    shutil.copytree(folder, unbroken)
    began = time.monotonic()
    process = _start(server, line, unbroken, name)
    _, err = process.communicate(_LONGEST_S)
    assert process.returncode == 0, err
    seconds = time.monotonic() - began
    n_bytes = sum(path.stat().st_size for path in unbroken.rglob("*") if path.is_file())
    return Case(name, line, folder, _contents(name, unbroken), _files(unbroken), seconds, n_bytes)


def _contents(name: str, folder: Path) -> Contents:
    return lake_contents(_db(name, folder)) if name in LAKES else contents(folder / DB)


def _db(name: str, folder: Path) -> Path:
    """The warehouse of a case in this folder; in Postgres, a database of its own."""
    if name not in LAKES:
        return folder / DB
    if name == "lake":
        return warehouse_path(f"ducklake:{folder / DB}")
    if folder not in _databases:
        _databases[folder] = new_database(_server["dsn"], f"stopped_{next(_numbers)}")
    return warehouse_path(f"ducklake:postgres:{_databases[folder]}", str(folder / f"{DB}.files"))


def _start(server: Server, line: list[str], folder: Path, name: str) -> Process:
    program = _FLEET.format(tests=str(Path(__file__).parents[1])) + _PROGRAM if "--devices" in line else _PROGRAM
    db = _db(name, folder)
    if name in LAKES:
        line = [*line, str(folder / f"{DB}.parts"), "--data", str(folder / f"{DB}.files")]
    return server.start(program, [*line, "--db", str(db)])


def _stop(
    server: Server, case: Case, folder: Path, draw: random.Random, stopped: "Counter[str]", *, is_full: bool
) -> list[str]:
    """Stop the command once or more; what it should not have said at that."""
    told = []
    for _ in range(draw.randint(1, _MOST_STOPS)):
        if is_full:
            used = shutil.disk_usage(folder).used
            _resize(folder, used + draw.randrange(4096, 2 * case.n_bytes))
        process = _start(server, case.line, folder, case.name)
        how, allowed = ("disk full", {1}) if is_full else _struck(case, process, folder, draw)
        _, err = _ended(process, folder)
        if process.returncode == 0:
            stopped[f"{how}, and went on" if how == "worker killed" else "over before"] += 1
            break
        stopped[how] += 1
        if process.returncode not in allowed or "Traceback" in err:
            told.append(f"{how}, ended with {process.returncode}: {err[-2000:]}")
    if is_full:
        _resize(folder, _ROOM)
    return told


def _struck(case: Case, process: Process, folder: Path, draw: random.Random) -> tuple[str, set[int]]:
    """Stop the command at a random moment; how, and with which codes it may end."""
    by = time.monotonic() + draw.uniform(0, case.seconds)
    how = draw.choice(("worker killed", "killed", "SIGTERM", "SIGINT")) if case.is_fleet else "killed"
    needs_workers = how != "killed"  # before there are some, nothing is interrupted
    while process.poll() is None and (time.monotonic() < by or (needs_workers and not _workers(folder))):
        time.sleep(0.001)
    if how == "worker killed":
        for pid in draw.sample(found := _workers(folder), min(len(found), draw.randint(1, 2))):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return how, {0, 1}
    process.send_signal(signal.SIGKILL if how == "killed" else getattr(signal, how))
    # Near its end, when all workers are over, SIGTERM ends the command as it ends any other.
    return how, {-signal.SIGKILL} if how == "killed" else {130, -getattr(signal, how)}


def _workers(folder: Path) -> list[int]:
    """The living workers of the commands that were given in this folder, of a fleet."""
    return [int(path.name) for path in sorted(_pids(folder).glob("*")) if _is_living(int(path.name))]


def _pids(folder: Path) -> Path:
    return folder / f"{DB}.pids"


def _is_living(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _ended(process: Process, folder: Path) -> tuple[str, str]:
    """What the command wrote, at its end; no worker of it is left then."""
    try:
        said = process.communicate(_LONGEST_S)
        by = time.monotonic() + _ENDED_IN_S
        while (left := _workers(folder)) and time.monotonic() < by:
            time.sleep(0.01)
        assert not left, f"{len(left)} workers are left"
    finally:
        for pid in [*_workers(folder), *([process.pid] if process.poll() is None else [])]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(_pids(folder), ignore_errors=True)
    return said


def _finish(server: Server, case: Case, folder: Path) -> list[str]:
    """Give the command once more; what is then other than it should be."""
    process = _start(server, case.line, folder, case.name)
    _, err = _ended(process, folder)
    if process.returncode != 0:
        return [f"given again it ended with {process.returncode}: {err[-2000:]}"]
    found = _contents(case.name, folder)
    other = [f"other rows: {name}" for name in differences(found, case.expected)]
    if case.is_fleet:
        other = [text for text in other if not _are_same_sums(text.removeprefix("other rows: "), found, case.expected)]
    broken = [f"verify: {check}" for check in verify(_db(case.name, folder)) if not check.ok]
    if case.name in LAKES:  # files of a commit that was killed
        clean(_db(case.name, folder), timedelta(0))
    left = [f"left over: {path}" for path in sorted(_files(folder) - case.files) if not path.endswith(".parquet")]
    if case.name in LAKES and (n_unknown := unknown_files(_db(case.name, folder), folder)):
        left.append(f"left over: {n_unknown} files that the catalog does not name")
    return other + broken + left


def _are_same_sums(table: str, found: Contents, expected: Contents) -> bool:
    """Whether a table of sums has the same rows, to 1e-6 of a number's size, or of 10."""
    if table not in _SUMS or len(found[table]) != len(expected[table]):
        return False
    pairs = [pair for rows in zip(found[table], expected[table], strict=True) for pair in zip(*rows, strict=True)]
    return all(
        math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-5) if isinstance(one, float) else one == other
        for one, other in pairs
    )


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if _pids(folder) not in (path, path.parent)}


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
