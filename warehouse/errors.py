"""The one error that a user is meant to read, and what several places say in it."""

import shlex
from pathlib import Path


class SelfRepairError(Exception):
    """Something the user can mend: the text names what was asked, what was found and the next step.

    The command line prints it without a traceback and exits with 1.
    """


def check_there(db: Path) -> None:
    """Raise SelfRepairError where there is no file `db`. It is neither opened nor made."""
    if not db.exists():
        raise SelfRepairError(
            f"there is no warehouse at {db}. Make one (selfrepair demo{_at(db)}), or name another file."
        )


def no_run(db: Path | None = None) -> str:
    """What is said of a warehouse that holds no run, with the next step; `db` is its file where that is known."""
    at = "" if db is None else _at(db)
    return (
        f"{db or 'this warehouse'} holds no run yet. Measure one (selfrepair demo{at}), or load part files measured "
        f"elsewhere (selfrepair load{at})."
    )


def _at(db: Path) -> str:
    return f" --db {shlex.quote(str(db))}"
