"""What people call a run, beside its number: a name, a note and tags. They decide no number and are in no key."""

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import duckdb

from selfrepair.warehouse.database.connection import OnWait, open_reader, open_writer
from selfrepair.warehouse.database.transactions import transaction
from selfrepair.warehouse.errors import SelfRepairError

_MOST_CHARACTERS = 100
_LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True)
class NamedRun:
    """A run as people call it."""

    run_id: int
    name: str | None
    note: str | None
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return f"run {self.run_id}" if self.name is None else f"run {self.run_id} ({self.name})"


def check_name(name: str, what: str = "the name of a run") -> None:
    """Raise SelfRepairError for what could be taken for a run's number, an option or nothing at all."""
    if not name or name != name.strip() or not name.isprintable() or len(name) > _MOST_CHARACTERS:
        raise SelfRepairError(
            f"{what} is 1 to {_MOST_CHARACTERS} printable characters without spaces around them, not {name!r}."
        )
    if _is_number(name) or name.lower() == "null" or name.startswith("-"):
        raise SelfRepairError(
            f"{what} cannot be {name!r}, which reads as a number or an option. Add a word, such as {_worded(name)!r}."
        )


def check_name_is_free(con: duckdb.DuckDBPyConnection, name: str, run_key: str) -> None:
    """Raise SelfRepairError where another run has the name, whatever its case: the two would be taken for each other."""
    other = _other_of_name(con, name, run_key)
    if other is not None:
        raise SelfRepairError(
            f"run {other} of this warehouse is called {name} already. Give another name, or rename that one first: "
            f"{_renaming(con, other)}"
        )


def name_to_give(con: duckdb.DuckDBPyConnection, name: str | None, run_key: str) -> str | None:
    """The name that a run which is loaded was to have; None where another run took it in the meantime, or it is none."""
    return name if name is not None and _is_name(name) and _other_of_name(con, name, run_key) is None else None


def why_unnamed(con: duckdb.DuckDBPyConnection, run_id: int, name: str | None) -> str:
    """A sentence where a run that was to have the name has none; else nothing."""
    ((own,),) = con.execute("SELECT run_name FROM runs WHERE run_id = ?", [run_id]).fetchall()
    if name is None or own is not None:
        return ""
    why = f"{name}, as another run is by now" if _is_name(name) else f"{name!r}, which is no name"
    return (
        f"run {run_id} was to be called {why}: it has its number alone. Give it another name: {_renaming(con, run_id)}"
    )


def _renaming(con: duckdb.DuckDBPyConnection, run_id: int) -> str:
    ((path,),) = con.execute(
        "SELECT path FROM system.main.duckdb_databases() WHERE database_name = system.main.current_database()"
    ).fetchall()
    return f"selfrepair name --db {quote(path)} {run_id} NEW" if path else f"selfrepair name {run_id} NEW"


def number_of(con: duckdb.DuckDBPyConnection, run: str, db: Path) -> int:
    """The number of the run of this number or name. Raises SelfRepairError where no run has the name."""
    if run.isdecimal():
        return _number(run, db)
    found = con.execute("SELECT run_id, run_name FROM runs WHERE run_name IS NOT NULL ORDER BY run_id").fetchall()
    for run_id, name in found:
        if name == run:
            return int(run_id)
    names = {name.lower(): name for _, name in found}
    near = [names[match] for match in difflib.get_close_matches(run.lower(), names, n=3)]
    hint = f"did you mean {' or '.join(near)}?" if near else "name it by its number."
    raise SelfRepairError(f"{db} has no run called {run}; {hint} Those it has: selfrepair runs --db {quote(str(db))}")


def run_number(db: Path, run: str, on_wait: OnWait | None = None) -> int:
    """The number of the run of this number or name, as `number_of`; a number is not looked up."""
    if run.isdecimal():
        return _number(run, db)
    with open_reader(db, on_wait=on_wait) as con:
        return number_of(con, run, db)


def set_name(db: Path, run: str, name: str | None, on_wait: OnWait | None = None) -> NamedRun:
    """Call a run `name`; None: by its number alone. Raises SelfRepairError where another run has the name."""
    if name is not None:
        check_name(name)
    with open_writer(db, on_wait=on_wait) as con, transaction(con):
        run_id = _known(con, run, db)
        ((run_key,),) = con.execute("SELECT run_key FROM runs WHERE run_id = ?", [run_id]).fetchall()
        if name is not None:
            check_name_is_free(con, name, run_key)
        con.execute("UPDATE runs SET run_name = ? WHERE run_id = ?", [name, run_id])
        return _named(con, run_id)


def set_note(db: Path, run: str, note: str | None, on_wait: OnWait | None = None) -> NamedRun:
    """Keep a note with a run, in place of the one before; None: none."""
    with open_writer(db, on_wait=on_wait) as con, transaction(con):
        run_id = _known(con, run, db)
        con.execute("UPDATE runs SET note = ? WHERE run_id = ?", [note, run_id])
        return _named(con, run_id)


def change_tags(
    db: Path, run: str, add: Collection[str], remove: Collection[str] = (), on_wait: OnWait | None = None
) -> NamedRun:
    """Add tags to a run and remove others, each once. Raises SelfRepairError for a tag to remove that it does not have."""
    for tag in add:
        check_name(tag, "a tag")
        if "," in tag or any(map(str.isspace, tag)):
            raise SelfRepairError(f"a tag is one word without commas, not {tag!r}. Give several words as several tags.")
    with open_writer(db, on_wait=on_wait) as con, transaction(con):
        run_id = _known(con, run, db)
        named = _named(con, run_id)
        if missing := [tag for tag in remove if tag not in named.tags]:
            raise SelfRepairError(f"{named} has no tag {missing[0]}; it has {', '.join(named.tags) or 'none'}.")
        tags = [tag for tag in dict.fromkeys([*named.tags, *add]) if tag not in remove]
        con.execute("UPDATE runs SET tags = ? WHERE run_id = ?", [tags or None, run_id])
        return _named(con, run_id)


def _number(run: str, db: Path) -> int:
    """Raises SelfRepairError for what is larger than a number of a run can be."""
    if int(run[:20]) > _LARGEST_NUMBER:
        raise SelfRepairError(f"{db} has no run {run}. Those it has: selfrepair runs --db {quote(str(db))}")
    return int(run)


def _known(con: duckdb.DuckDBPyConnection, run: str, db: Path) -> int:
    """As `number_of`, and raises where no run has the number, too."""
    run_id = number_of(con, run, db)
    if not con.execute("SELECT 1 FROM runs WHERE run_id = ?", [run_id]).fetchall():
        raise SelfRepairError(f"{db} has no run {run_id}. Those it has: selfrepair runs --db {quote(str(db))}")
    return run_id


def _named(con: duckdb.DuckDBPyConnection, run_id: int) -> NamedRun:
    ((name, note, tags),) = con.execute("SELECT run_name, note, tags FROM runs WHERE run_id = ?", [run_id]).fetchall()
    return NamedRun(run_id, name, note, tuple(tags or ()))


def _other_of_name(con: duckdb.DuckDBPyConnection, name: str, run_key: str) -> int | None:
    found = con.execute(
        "SELECT run_id FROM runs WHERE lower(run_name) = lower(?) AND run_key <> ?", [name, run_key]
    ).fetchall()
    return found[0][0] if found else None


def _is_name(name: str) -> bool:
    """Whether a name that a record or another file has is one: it may have been written by anybody."""
    try:
        check_name(name)
    except SelfRepairError:
        return False
    return True


def _is_number(name: str) -> bool:
    try:
        float(name.replace(",", "").replace("_", ""))
    except ValueError:
        return False
    return True


def _worded(name: str) -> str:
    return f"run-{name.strip('-+')}"
