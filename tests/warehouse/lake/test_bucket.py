"""A lake whose rows lie in a bucket: of a server on this machine that speaks S3."""

import os
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.database.lake.address import Lake
from selfrepair.warehouse.errors import ResumableError, SelfRepairError
from selfrepair.warehouse.load import loader
from selfrepair.warehouse.load.cleaning import clean
from support.fabricate import fabricate
from support.lakes import why_none
from support.loaded import load_rows

moto_server = pytest.importorskip("moto.server", reason="no S3 on this machine: pip install 'moto[server]'")
boto3 = pytest.importorskip("boto3")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket, with keys for it in the environment."""
    if why := why_none("httpfs"):
        pytest.skip(why)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=60).close()  # what this process stored in an earlier one
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="rows")
        yield "s3://rows/lake"
    finally:
        server.stop()


@pytest.fixture
def db(tmp_path: Path, bucket: str) -> Lake:
    lake = warehouse_path(f"ducklake:{tmp_path / 'lake.duckdb'}", bucket)
    assert isinstance(lake, Lake)
    return lake


def test_rows_lie_in_a_bucket_and_nothing_else_is_within_reach(
    db: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_rows(db, fabricate().write(tmp_path / "parts").root)
    with Reader(db) as reader:
        assert reader.ask("SELECT count(*) AS n FROM measurements WHERE ablation < 'zero'").frame["n"].item() == 576
    assert not (tmp_path / "lake.duckdb.files").exists()
    boto3.client("s3", region_name="us-east-1").put_object(Bucket="rows", Key="other/secret.csv", Body=b"a\n1\n")
    with open_reader(db) as con, pytest.raises(Exception, match="disabled by configuration"):
        con.execute("FROM read_csv('s3://rows/other/secret.csv')")

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with (
        pytest.raises(SelfRepairError, match=r"no credentials for s3://rows/lake/\. Set AWS_ACCESS_KEY_ID"),
        open_reader(db),
    ):
        pass


def test_a_bucket_that_vanishes_in_mid_load_loses_nothing(
    db: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "ROWS_PER_TRANSACTION", 1)
    root = fabricate().write(tmp_path / "parts").root
    client = boto3.client("s3", region_name="us-east-1")
    append, calls = loader.append_units, []

    def vanishing(*args: object) -> None:
        if calls:
            for found in client.list_objects_v2(Bucket="rows")["Contents"]:
                client.delete_object(Bucket="rows", Key=found["Key"])
            client.delete_bucket(Bucket="rows")
        calls.append(args)
        append(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as during:
        during.setattr(loader, "append_units", vanishing)
        with pytest.raises(ResumableError, match="could not be read or written"):
            load_rows(db, root)

    client.create_bucket(Bucket="rows")
    assert (
        len(list((root / "run-a").glob("unit-*"))) == 2
    )  # what was committed is lost with the bucket, and its files are kept


def test_a_place_in_a_bucket_is_one_lake_s_alone(db: Lake, bucket: str, tmp_path: Path) -> None:
    """And what cleans one removes no rows of another."""

    def load_into(lake: str | Path, place: str = "") -> None:
        load_rows(warehouse_path(lake, place or None), fabricate().write(tmp_path / "parts").root)

    load_into(db)
    other = f"ducklake:{tmp_path / 'other.duckdb'}"
    for place, said in ((bucket, "has files of others"), (f"{bucket}/below", "lies in s3://rows/lake/")):
        with pytest.raises(SelfRepairError, match=said):
            load_into(other, place)
        assert not (tmp_path / "other.duckdb").exists()
    boto3.client("s3", region_name="us-east-1").put_object(Bucket="rows", Key="lakes/mine.txt", Body=b"mine")
    with pytest.raises(SelfRepairError, match="has files of others"):
        load_into(other, "s3://rows/lakes")
    clean(db, timedelta(0))
    Path(db).unlink()  # as if killed while it was made: what it claimed is its own
    load_into(db)
