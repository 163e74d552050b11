"""Passwords in an address are seen by nobody, also where the address is wrong; and what names a lake to another command."""

import json
from pathlib import Path

import duckdb
import pytest

from selfrepair.warehouse.database.lake import storage
from selfrepair.warehouse.database.lake.address import Lake, lake_address, options_of, without_password
from selfrepair.warehouse.database.lake.catalog import data_to_make
from selfrepair.warehouse.database.lake.opening import explained
from selfrepair.warehouse.database.lake.postgres import dsn, unreachable
from selfrepair.warehouse.errors import SelfRepairError

WORD = "hunter2"


@pytest.mark.parametrize(
    "catalog",
    [
        f"host=db PASSWORD={WORD} dbname=w",
        f"host=db sslpassword={WORD}",
        f"host=db password='un closed {WORD}",
        f"host=db password = '{WORD} it\\'s {WORD}' dbname=w",
        f"postgresql://me:{WORD}@db/w",
        f"postgresql://db/w?password={WORD}",
    ],
)
def test_no_message_has_the_password(catalog: str) -> None:
    lake = Lake.of("postgres", catalog, "rows")
    error = duckdb.IOException(f'Unable to connect to Postgres at "{dsn(lake)}": no')
    told = explained(lake, error)
    texts = [str(lake), repr(lake), str(unreachable(lake, error)), str(told), without_password(lake, str(error))]
    assert WORD not in json.dumps(texts + options_of(lake))
    assert options_of(lake)[-2:] == ["--data", "rows"]
    assert options_of(lake, secret=True) == ["--db", f"ducklake:postgres:{catalog}", "--data", "rows"]
    assert options_of(Path("w.duckdb"), secret=True) == ["--db", "w.duckdb"]


@pytest.mark.parametrize("word", ["a/hunter2", "a@hunter2", "a?hunter2"])
def test_a_password_that_postgres_would_take_for_a_host_is_refused(word: str) -> None:
    with pytest.raises(SelfRepairError, match=r"%2F, %40, .*PGPASSWORD") as refused:
        lake_address(f"ducklake:postgres:postgresql://me:{word}@db/w")
    assert WORD not in str(refused.value)


def test_a_postgres_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    assert dsn(Lake.of("postgres", "host=db")) == "host=db connect_timeout=10"
    assert dsn(Lake.of("postgres", "postgresql://db/w?sslmode=require")).endswith("?sslmode=require&connect_timeout=10")
    assert dsn(Lake.of("postgres", "postgres://db")) == "postgres://db?connect_timeout=10"
    assert dsn(Lake.of("postgres", "host=db connect_timeout=3")) == "host=db connect_timeout=3"


def test_no_lake_lies_within_another(tmp_path: Path) -> None:
    data_to_make(Lake.of("duckdb", str(tmp_path / "a.duckdb"), str(tmp_path / "rows")))
    with pytest.raises(SelfRepairError, match=r"rows of another lake.*Name a folder"):
        data_to_make(Lake.of("duckdb", str(tmp_path / "b.duckdb"), str(tmp_path / "rows" / "b")))
    assert not (tmp_path / "rows" / "b").exists()


def test_a_broken_file_of_keys_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(f"aws_secret_access_key = {WORD}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(SelfRepairError, match="AWS_SHARED_CREDENTIALS_FILE") as refused:
        storage.secret("s3://bucket/lake/")
    assert WORD not in str(refused.value)
