"""A lake's catalog before DuckLake opens it: whether there is one, and where it says that the rows lie."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from urllib.parse import quote as url_quote

import duckdb

from selfrepair.warehouse import compat, files
from selfrepair.warehouse.database.lake.address import DATA_VARIABLE, Lake, is_bucket
from selfrepair.warehouse.database.lake.postgres import ask, postgres, text
from selfrepair.warehouse.database.limits import CLOSED
from selfrepair.warehouse.errors import SelfRepairError, in_words

_DATA = "SELECT value FROM ducklake_metadata WHERE key = 'data_path' AND scope IS NULL"
_IS_MADE = "SELECT to_regclass('ducklake_metadata') IS NOT NULL"
_WHOSE = ".lake"
"""A file in a folder of rows that tells whose it is: a lake that was killed while it was made is made there again."""

_SQLITE = b"SQLite format 3"


def is_made(lake: Lake) -> bool:
    """Whether there is a catalog."""
    if lake.kind != "postgres":
        return lake.exists()
    with postgres(lake) as con:
        return ask(con, _IS_MADE) == [(True,)]


def recorded_data(lake: Lake) -> str:
    """The folder or bucket of the lake's rows, with a slash at its end, as the catalog says.

    Raises SelfRepairError where the catalog is none, where the address names another place, and where everything could be
    read below the place that it says.
    """
    if lake.kind == "postgres":
        with postgres(lake) as con:
            if ask(con, _IS_MADE) != [(True,)]:
                raise SelfRepairError(f"there is no lake at {lake}. {how_to_make(lake)}")
            found = ask(con, _DATA)
    else:
        found = _found_in_sqlite(lake) if lake.kind == "sqlite" else _found_in_duckdb(lake)
    if not found:
        raise SelfRepairError(f"{lake} is not the catalog of a lake: it does not say where rows lie. Name another one.")
    data = _with_slash(str(found[0][0]))
    if not is_bucket(data):
        data = _with_slash(str(Path(os.path.realpath(lake)).parent / data))
        _check_narrow(lake, data, is_made=True)
    if lake.data is not None and data != (given := absolute_data(lake.data)):
        raise SelfRepairError(
            f"the rows of {lake} lie in {data}, not in {given}: a lake keeps the place that it was made with. Leave "
            f"{in_words('--data', DATA_VARIABLE)} out."
        )
    return data


def stored_bytes(db: Path) -> int | None:
    """The size of a warehouse on this machine's disks, with what a lake has not cleaned yet [bytes]; None: it is elsewhere."""
    if not isinstance(db, Lake):
        return db.stat().st_size
    data = recorded_data(db)
    if is_bucket(data):
        return None
    catalog = 0 if db.kind == "postgres" else Path(db).stat().st_size
    return catalog + sum(map(_bytes, Path(data).rglob("*")))


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # cleaned at this moment
        return 0


def data_to_make(lake: Lake) -> str:
    """The folder or bucket that a new lake gets. Raises SelfRepairError where it has to be named, or cannot be one."""
    given = lake.data or os.environ.get(DATA_VARIABLE)
    if not given and lake.kind == "postgres":
        raise SelfRepairError(f"{lake} is new, and where its rows are to lie is not said. {_name_data()}")
    data = absolute_data(given or f"{os.fspath(lake)}.files")
    if not is_bucket(data):
        _check_narrow(lake, data, is_made=False)
        path = Path(data)
        if of_another := next((folder for folder in path.parents if (folder / _WHOSE).is_file()), None):
            raise SelfRepairError(  # whose `clean` would remove these rows
                f"{data} lies in {of_another}, where the rows of another lake are, which has that folder alone. {_name_data()}"
            )
        whose = str(lake.absolute())
        try:
            path.mkdir(parents=True, exist_ok=True)
            note = path / _WHOSE
            if note.exists():
                is_own = files.read_own(note).decode(errors="replace").strip() == whose
            else:
                is_own = not any(path.iterdir())
                if is_own:
                    note.write_text(f"{whose}\n", encoding="utf-8")
            if not is_own:  # `clean` removes what its own lake does not name
                raise SelfRepairError(f"{data} has files of others, and a lake has a folder of its own. {_name_data()}")
        except OSError as error:
            raise SelfRepairError(f"{data} cannot be created: {error.strerror}. {_name_data()}") from error
    elif not data.startswith("s3://"):
        raise SelfRepairError(f"{data} is no folder and no address of a bucket, s3://BUCKET/NAME. {_name_data()}")
    return data


def claim_bucket(con: duckdb.DuckDBPyConnection, lake: Lake, data: str) -> None:
    """Have the place of a new lake's rows in a bucket be its alone, by a note in it. `con` has the keys, and is not closed yet.

    Raises SelfRepairError where it lies within another lake's, or where something else lies in it: `clean` would remove that.
    """
    whose, note = str(lake.absolute()) if lake.kind != "postgres" else str(lake), f"{data}{_WHOSE}"
    bucket, *folders = data.removeprefix("s3://").rstrip("/").split("/")
    above = ["/".join(["s3:/", bucket, *folders[:n], _WHOSE]) for n in range(len(folders))]
    of_another = [place for place in above if _is_there(con, _looked_up(place))]
    if of_another:
        raise SelfRepairError(
            f"{data} lies in {of_another[0].removesuffix(_WHOSE)}, where the rows of another lake are, which has that place "
            f"alone. {_name_data()}"
        )
    if _is_there(con, _looked_up(note)):
        ((told,),) = con.execute("SELECT content FROM read_text(?)", [note]).fetchall()
        is_own = told.strip() == whose
    else:
        is_own = not _is_there(con, f"{data}**")
        if is_own:
            con.execute(f"COPY (SELECT {text(whose)}) TO {text(note)} (FORMAT csv, HEADER false, QUOTE '')")
    if not is_own:
        raise SelfRepairError(f"{data} has files of others, and a lake has a place of its own. {_name_data()}")


def _looked_up(name: str) -> str:
    """A pattern that only `name` has: a name without one is taken to be there."""
    return f"{name[:-1]}[{name[-1]}]"


def _is_there(con: duckdb.DuckDBPyConnection, pattern: str) -> bool:
    return bool(con.execute("SELECT 1 FROM glob(?) LIMIT 1", [pattern]).fetchall())


def absolute_data(data: str) -> str:
    """The place of rows by its full name, with a slash at its end."""
    return _with_slash(data if is_bucket(data) else os.path.realpath(data))


def how_to_make(lake: Lake) -> str:
    """The next step where there is no lake yet."""
    data = lake.data or "FOLDER|s3://BUCKET/NAME"
    make = in_words(f"selfrepair demo --db '{lake}' --data {data}", f"{DATA_VARIABLE}={data}, and measure into it")
    return f"Make one ({make}), or name another one{in_words(' with --db', '')}."


def _check_narrow(lake: Lake, data: str, *, is_made: bool) -> None:
    """A reader may read what lies in the folder of rows. A catalog may be anybody's, and name any folder."""
    folder = Path(data).resolve()
    if is_made and not (folder / _WHOSE).is_file():
        raise SelfRepairError(
            f"the rows of {lake} are to lie in {data}, which is not there, or not the folder of a lake: it has no file "
            f"{_WHOSE}. Put the folder back, or name another lake."
        )
    places = [Path.home(), Path.cwd(), *([Path(os.path.realpath(lake))] if lake.kind != "postgres" else [])]
    if any(folder in (place, *place.parents) for place in places):
        raise SelfRepairError(
            f"the rows of {lake} would lie in {data}, where other files are: readers of the lake could read all of them. "
            f"{_name_data()}"
        )


def _found_in_duckdb(lake: Lake) -> list[tuple[object, ...]]:
    from selfrepair.warehouse.database.format import check_format

    check_format(Path(lake))
    try:
        with duckdb.connect(os.path.realpath(lake), read_only=True, config=CLOSED) as con:
            return con.execute(_DATA).fetchall()
    except (duckdb.CatalogException, duckdb.BinderException):
        raise SelfRepairError(
            f"{os.fspath(lake)} is a DuckDB file, but not the catalog of a lake. A warehouse in one file is named without "
            f"ducklake:{in_words(f' (--db {os.fspath(lake)})', '')}."
        ) from None
    except duckdb.Error as error:
        raise _not_opened(lake, error) from error


def _found_in_sqlite(lake: Lake) -> list[tuple[object, ...]]:
    import sqlite3  # whoever opens a file does without

    try:
        with files.open_regular(Path(lake)) as file:
            begins = file.read(len(_SQLITE))
        if begins != _SQLITE:
            raise SelfRepairError(
                f"{os.fspath(lake)} is not an SQLite file. Nothing in it was touched. Name another one."
            )
        uri = f"file:{url_quote(os.path.realpath(lake))}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as con:
            return con.execute(_DATA).fetchall()
    except sqlite3.OperationalError as error:
        raise SelfRepairError(
            f"{os.fspath(lake)} is not the catalog of a lake ({error}). Nothing in it was touched. Name another file."
        ) from error
    except (sqlite3.Error, OSError) as error:
        raise _not_opened(lake, error) from error


def _not_opened(lake: Lake, error: Exception) -> SelfRepairError:
    return SelfRepairError(
        f"{lake} cannot be opened: {compat.reason(error)}. Restore a copy of the catalog, or measure again."
    )


def _with_slash(data: str) -> str:
    return data if data.endswith("/") else f"{data}/"


def _name_data() -> str:
    return (
        f"Name a folder or bucket of its own: {in_words('--data FOLDER|s3://BUCKET/NAME', f'{DATA_VARIABLE}=FOLDER')}"
    )
