"""The option --name of recorded commands became --series: within quotes, words are values and stay."""

from hashlib import sha256
from shlex import join, split

import duckdb
import pytest

from selfrepair.warehouse.database.migrate import _EARLIER_TEXTS, migrate, migrations
from selfrepair.warehouse.errors import SelfRepairError

WORDS = ["selfrepair", "ingest", "--name"]


@pytest.mark.parametrize(
    ("command", "migrated"),
    [
        (join([*WORDS, "mine", "--seed", "1"]), "selfrepair ingest --series mine --seed 1"),
        (join([*WORDS, "my model", "--heads", "L0H0"]), "selfrepair ingest --series 'my model' --heads L0H0"),
        (join(["selfrepair", "ingest", "--model", "a --name b", "--name", "c"]), None),
        (join(["selfrepair", "ingest", "--model", "it's a --name b", "--name", "d'e --name f", "--seed", "1"]), None),
        (None, None),
    ],
)
def test_only_the_option_is_renamed(command: str | None, migrated: str | None) -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE runs (run_id INTEGER, command VARCHAR)")
        con.execute("INSERT INTO runs VALUES (1, ?)", [command])
        con.execute(migrations()[12].sql)
        ((found,),) = con.execute("SELECT command FROM runs").fetchall()
    if command is None:
        assert found is None
        return
    wanted = ["--series" if word == "--name" else word for word in split(command)]
    assert split(found) == wanted
    assert migrated in (None, found)


def test_files_that_the_earlier_text_made_go_on() -> None:
    (step,) = (step for step in migrations() if step.name in _EARLIER_TEXTS)
    assert step.sha256 != _EARLIER_TEXTS[step.name]
    with duckdb.connect() as con:
        migrate(con, migrations()[: step.version])
        con.execute(
            "UPDATE schema_migration SET sha256 = ? WHERE version = ?", [_EARLIER_TEXTS[step.name], step.version]
        )
        migrate(con)
        con.execute(
            "UPDATE schema_migration SET sha256 = ? WHERE version = ?", [sha256(b"x").hexdigest(), step.version]
        )
        with pytest.raises(SelfRepairError, match="another build"):
            migrate(con)
