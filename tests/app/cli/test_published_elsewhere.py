"""Publications on the hub and in a bucket: sent whole or not at all, read where they lie; tokens go to the hub alone."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.app.components import snippets
from selfrepair.queries.export import upload as upload_module
from selfrepair.queries.export.upload import check_target, upload
from selfrepair.queries.sandbox import process
from selfrepair.warehouse.database.publication import MANIFEST, address_of, sha256_of
from selfrepair.warehouse.database.remote import source_of
from selfrepair.warehouse.errors import SelfRepairError
from support import hub
from support.publications import published

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's own client

NAME = "hf://datasets/lab/repair"
QUERY = (
    "SELECT label, count(*) AS n, max(self_repair) AS most FROM self_repair WHERE run_id = 1 GROUP BY label ORDER BY 1"
)


@pytest.fixture
def folder() -> Path:
    return published() / "whole"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    """The hub that this process and the processes of its queries ask, with its token, and a cache of their own."""
    from huggingface_hub import constants

    with hub.serve() as server:
        for name, value in hub.environment(server.address, tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setenv("SELFREPAIR_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        process.end_idle()  # they have the environment of before
        yield server
        process.end_idle()


def test_the_hub_s_is_read_where_it_lies(server: hub.Hub, folder: Path) -> None:
    address = upload(folder, NAME)
    assert address.startswith(f"{NAME}@")
    server.requests.clear()
    warehouse = Warehouse(NAME)
    assert warehouse.runs()["model"].to_list()[0] == "tiny-model"
    assert not server.asked("rows.parquet"), "runs and summaries are in the small file"
    assert_frame_equal(warehouse.sql(QUERY), Warehouse(folder).sql(QUERY))
    assert server.asked(r"measurements/run_id=1/rows.parquet")
    assert not server.asked(r"measurements/run_id=2|edge_sums"), "only what the query needs"
    assert repr(warehouse).startswith(f"<Warehouse {address}: run 1 of tiny-model")
    assert all(request.range for request in server.asked("rows.parquet"))
    server.requests.clear()
    assert Warehouse(address).path == warehouse.path
    assert not server.requests, "a commit that is here needs no hub"
    server.fail("GET .*/revision/", 500, times=9)
    with pytest.raises(
        SelfRepairError, match=f"What was fetched before opens without it, all but single rows: {address}"
    ):
        Warehouse(NAME)
    result = CliRunner().invoke(main, ["tag", "1", "x", "--db", address])
    assert f"{address} is a publication, which is only read" in result.output


def test_a_token_goes_to_the_hub_alone(server: hub.Hub, folder: Path) -> None:
    upload(folder, NAME)
    Warehouse(NAME).sql(QUERY)
    elsewhere = [request for request in server.requests if request.elsewhere]
    assert {request.method for request in elsewhere} == {"GET", "PUT"}
    assert not any(request.authorized for request in elsewhere)
    assert any(request.authorized for request in server.asked("GET .*resolve"))


def test_what_broke_off_is_told_and_goes_on(server: hub.Hub, folder: Path) -> None:
    server.fail("POST .*/commit/", 403)
    with pytest.raises(SelfRepairError, match=r"cannot be written to the hub at .*: .*403"):
        upload(folder, NAME)
    sent = len(server.asked("PUT "))
    assert sent > 40
    with pytest.raises(SelfRepairError, match=f"{NAME} holds nothing"):
        Warehouse(NAME)
    server.requests.clear()
    upload(folder, NAME)
    assert not server.asked("PUT "), "all of it was there"
    assert Warehouse(NAME).models().height == 2


def test_another_state_takes_the_place_of_one(server: hub.Hub, folder: Path) -> None:
    first = upload(folder, NAME)
    second = upload(published() / "bare", NAME)
    files = {path.relative_to(published() / "bare").as_posix() for path in (published() / "bare").rglob("*")}
    repository = server.repository("datasets", "lab/repair")
    assert repository is not None
    assert set(repository.revisions["main"].files) <= files, "nothing of the first is left"
    assert [Warehouse(address).runs().height for address in (NAME, second)] == [1, 1]
    assert first != second


def test_text_that_earlier_commits_hold_is_said(server: hub.Hub, folder: Path) -> None:
    notes: list[str] = []
    for one in (folder, published() / "bare", published() / "bare"):
        upload(one, NAME, on_note=notes.append)
    assert [note.partition(",")[0] for note in notes if "hold text" in note] == [
        "earlier commits of lab/repair hold text"
    ]


def test_a_hub_that_names_a_place_for_a_commit_is_refused(server: hub.Hub, folder: Path, tmp_path: Path) -> None:
    server.add("datasets", "lab/repair", folder)
    revisions = server.repository("datasets", "lab/repair").revisions  # type: ignore[union-attr]
    revisions["main"] = replace(revisions["main"], sha="../../../../../stolen")
    with pytest.raises(SelfRepairError, match="the hub names no commit of lab/repair"):
        Warehouse(NAME)
    assert not (tmp_path / "cache").exists()


def test_a_half_of_one_on_the_hub_says_so(server: hub.Hub, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "tokens")
    server.add("datasets", "lab/half", copy)
    with pytest.raises(SelfRepairError, match=r"not whole: tokens/run_id=1/rows.parquet has 0 of"):
        Warehouse("hf://datasets/lab/half")
    (copy / MANIFEST).unlink()
    server.add("datasets", "lab/half", copy)
    with pytest.raises(SelfRepairError, match=rf"not whole: it has no {MANIFEST}, which is written last"):
        Warehouse("hf://datasets/lab/half")
    with pytest.raises(SelfRepairError, match=r"holds something else \(README.md"):
        upload(folder, "hf://datasets/lab/half")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (
            "hf://datasets/lab/none",
            r"there is no data set lab/none on the hub at http.*log in: hf auth login, or HF_TOKEN",
        ),
        (f"{NAME}@nowhere", r"has no revision 'nowhere'"),
        ("hf://lab/repair", r"is no address of a publication"),
        ("hf://datasets/lab/repair/x", r"is no address of a publication"),
        ("s3://bucket/../x", r"is no address of a publication"),
    ],
)
def test_an_address_that_leads_nowhere_says_what_to_do(
    address: str, said: str, server: hub.Hub, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    server.add("datasets", "lab/repair", tmp_path / "empty")
    with pytest.raises(SelfRepairError, match=said):
        Warehouse(address)


def test_publishing_needs_a_token_and_no_revision(server: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SelfRepairError, match="names a revision, and publishing makes a new one"):
        check_target(f"{NAME}@v1")
    check_target(NAME)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SelfRepairError, match="needs a token that may write: hf auth login, or HF_TOKEN"):
        check_target(NAME)


def test_a_folder_that_was_sent_leads_nowhere_else(server: hub.Hub, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "origin.txt").write_text(f"{NAME}@{'0' * 40}")
    assert address_of(copy) == str(copy)
    assert_frame_equal(Warehouse(copy).sql(QUERY), Warehouse(folder).sql(QUERY))
    assert not server.requests


def test_code_to_copy_names_what_others_can_open(server: hub.Hub, folder: Path) -> None:
    assert snippets.python("FROM runs", folder).count(repr(str(folder))) == 1
    line = snippets.duckdb("runs", folder)
    assert line.startswith(
        f"duckdb -readonly {folder}/warehouse.duckdb <<'SQL'\nSET VARIABLE selfrepair_files = '{folder}/';"
    )
    server.add("datasets", "lab/repair", folder)
    path = Warehouse(NAME).path
    assert f"--db {NAME}@" in snippets.selfrepair("FROM runs", path)
    assert f"SET VARIABLE selfrepair_files = '{NAME}@" in snippets.duckdb("runs", path)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The address of a server that speaks S3, with an empty bucket `lab`."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="lab")
    yield address
    server.stop()


@pytest.fixture
def keys(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment has the address of the bucket's server, keys, and a cache of its own."""
    for name, value in {
        "AWS_ENDPOINT_URL": bucket,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SELFREPAIR_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    process.end_idle()
    yield
    process.end_idle()


@pytest.mark.usefixtures("keys")
def test_a_bucket_s_is_read_where_it_lies(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SelfRepairError, match="s3://lab/repair holds nothing"):
        Warehouse("s3://lab/repair")
    with pytest.raises(SelfRepairError, match=r"s3://none cannot be read: .*credentials"):
        Warehouse("s3://none")
    assert upload(published() / "bare", "s3://lab/repair") == "s3://lab/repair"
    assert upload(folder, "s3://lab/repair") == "s3://lab/repair"
    with caplog.at_level("INFO", logger="werkzeug"):
        caplog.clear()
        upload(folder, "s3://lab/repair")
    put = [line for record in caplog.records if re.search('"(PUT|POST) ', line := record.getMessage())]
    assert put
    assert all(MANIFEST in line for line in put), "all else was there"
    warehouse = Warehouse("s3://lab/repair/")
    assert_frame_equal(warehouse.sql(QUERY), Warehouse(folder).sql(QUERY))


@pytest.fixture
def small(folder: Path, tmp_path: Path) -> Path:
    """A copy with few files, which are sent soon."""
    copy = tmp_path / "small"
    manifest = json.loads((folder / MANIFEST).read_text())
    names = [name for name in manifest["files"] if "rows.parquet" not in name or name.startswith(("tokens", "runs"))]
    manifest["files"] = {name: manifest["files"][name] for name in names}
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / name, copy / name)
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


@pytest.mark.usefixtures("keys")
def test_what_is_replaced_in_a_bucket_is_never_two_halves(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(small, "s3://lab/replaced")
    opened = Warehouse("s3://lab/replaced")
    count = "SELECT count(*) AS n, count(token) AS t FROM tokens WHERE run_id = 2"
    assert opened.sql(count).rows() == [(12, 12)]
    rows = small / "tokens/run_id=2/rows.parquet"
    data = bytearray(rows.read_bytes())
    data[10] ^= 1  # of the same size
    rows.write_bytes(data)
    manifest = json.loads((small / MANIFEST).read_text())
    manifest["files"]["tokens/run_id=2/rows.parquet"]["sha256"] = sha256_of(rows)
    del manifest["files"]["runs/rows.parquet"]
    (small / MANIFEST).write_text(json.dumps(manifest))
    (small / "runs/rows.parquet").unlink()
    send = upload_module._send

    def breaks(fs: Any, file: Path, path: str, sha256: str) -> None:
        if file.name == MANIFEST:
            raise OSError("the network is gone")
        send(fs, file, path, sha256)

    with monkeypatch.context() as patched:
        patched.setattr(upload_module, "_send", breaks)
        with pytest.raises(SelfRepairError, match="the network is gone"):
            upload(small, "s3://lab/replaced")
    process.end_idle()
    with pytest.raises(SelfRepairError, match=r"published anew"):
        opened.sql(count)
    with pytest.raises(SelfRepairError, match=rf"not whole: it has no {MANIFEST}"):
        Warehouse("s3://lab/replaced")
    upload(small, "s3://lab/replaced")
    assert set(source_of("s3://lab/replaced").sizes()) == {*manifest["files"], MANIFEST}


@pytest.mark.usefixtures("keys")
def test_what_else_is_in_a_bucket_stays(small: Path) -> None:
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
    client.put_object(Bucket="lab", Key="other/README.md", Body=b"mine")
    with pytest.raises(SelfRepairError, match=r"s3://lab/other holds something else \(README.md\)"):
        upload(small, "s3://lab/other")
    assert client.get_object(Bucket="lab", Key="other/README.md")["Body"].read() == b"mine"
    assert set(source_of("s3://lab/other").sizes()) == {"README.md"}


@pytest.mark.parametrize("name", ["head_repair", "measurements", "prompts", "runs"])
def test_datasets_loads_it_without_a_network(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert set(datasets.get_dataset_config_names(str(folder))) > {"head_repair", "measurements", "runs"}
    loaded = datasets.load_dataset(str(folder), name, split="train", cache_dir=str(tmp_path))
    frame = loaded.to_polars()
    with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as con:
        con.execute(f"SET VARIABLE selfrepair_files = '{folder}/'")
        assert (len(loaded),) == con.execute(f"SELECT count(*) FROM {name}").fetchall()[0]
    assert frame.columns == pl.read_parquet(next((folder / name).rglob("*.parquet")), hive_partitioning=False).columns
