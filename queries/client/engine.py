"""The warehouse for programs that talk SQLAlchemy."""

from pathlib import Path
from typing import Any

import duckdb
import sqlalchemy as sa
from duckdb_sqlalchemy import ConnectionWrapper

from selfrepair.queries.marts.install import prepare_reader
from selfrepair.queries.sandbox.reader import OnNote
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.errors import Language, errors_in


def read_only_engine(path: Path, wait_s: float, on_note: OnNote, language: Language) -> sa.Engine:
    """An engine whose connections read the warehouse at `path` with this version's views, and close when released.

    Connecting waits up to `wait_s` seconds for a load to end, and raises SelfRepairError as `open_reader` does, in the
    terms of `language`.
    """
    engine = sa.create_engine(sa.URL.create("duckdb", database=str(path)), poolclass=sa.NullPool)

    @sa.event.listens_for(engine, "do_connect")
    def connect(*_: Any) -> Any:
        # The dialect would open the file with a configuration of its own, and DuckDB refuses two in one process.
        with errors_in(language), open_reader(path, wait_s):
            connection = duckdb.connect(str(path), read_only=True)  # which stays open
        try:
            for note in prepare_reader(connection):
                on_note(note)
        except BaseException:
            connection.close()
            raise
        return ConnectionWrapper(connection)

    return engine
