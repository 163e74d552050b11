"""Files made once in a run of the tests, by whichever worker needs one first; every test takes a copy.

Making a warehouse with all its summaries takes seconds, copying it milliseconds.
"""

import fcntl
import hashlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

_shared: list[Path] = []
"""The folder that all workers of this run share, set once a session by tests/conftest.py."""


def share(folder: Path) -> None:
    """Keep what is made from now on in `folder`."""
    _shared[:] = [folder]
    folder.mkdir(exist_ok=True)


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder `name` as `make(folder)` filled it; nothing in it may be changed."""
    folder = _shared[0] / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".part")
            shutil.rmtree(unfinished, ignore_errors=True)  # of a worker that failed half way
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


def copied(folder: Path, name: str, make: Callable[[Path], object]) -> Path:
    """A copy in `folder` of the file `w.duckdb` that `make` leaves in the folder it is called with."""
    return Path(shutil.copy(made_once(name, make) / "w.duckdb", folder))


def digest(*values: object) -> str:
    """A name for what depends on these values alone."""
    return hashlib.sha256(pickle.dumps(values)).hexdigest()[:16]
