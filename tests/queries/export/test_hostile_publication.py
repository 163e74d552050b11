"""What somebody else's publication may not do to its reader, and what is no publication that anybody should read."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfrepair import Warehouse
from selfrepair.queries.export.card import About, _header
from selfrepair.queries.export.publication import Options, _names_a_place, _refuse_damaged, publish
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.database.publication import MANIFEST, SMALL_FILE
from selfrepair.warehouse.errors import SelfRepairError
from support.publications import published

ROWS = "tokens/run_id=1/rows.parquet"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(published() / "whole", tmp_path / "copy")
    return tmp_path / "copy"


def resized(folder: Path) -> None:
    """The manifest is made to agree with the sizes of the files."""
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        manifest["files"][name]["size"] = (folder / name).stat().st_size
    (folder / MANIFEST).write_text(json.dumps(manifest))


def link_rows(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret\n")
    (folder / ROWS).unlink()
    (folder / ROWS).symlink_to("../../../secret")


def link_folder(folder: Path) -> None:
    shutil.move(folder / "tokens", folder.parent / "elsewhere")
    (folder / "tokens").symlink_to(folder.parent / "elsewhere")


def link_small_file(folder: Path) -> None:
    shutil.move(folder / SMALL_FILE, folder.parent / "own.duckdb")
    (folder / SMALL_FILE).symlink_to(folder.parent / "own.duckdb")


def pipe(folder: Path) -> None:
    (folder / ROWS).unlink()
    os.mkfifo(folder / ROWS)


@pytest.mark.parametrize("spoil", [link_rows, link_folder, link_small_file, pipe])
def test_what_leads_out_of_its_folder_is_not_read(spoil: Callable[[Path], Any], copy: Path) -> None:
    with duckdb.connect(str(copy / SMALL_FILE)) as con:
        con.execute(f"CREATE VIEW evil AS FROM read_text('{copy / ROWS}')")
    spoil(copy)
    resized(copy)
    with pytest.raises(SelfRepairError, match="is no file, or leads out of it"):
        Warehouse(copy).sql("FROM evil")


def test_the_hub_s_cache_has_links_to_blobs_of_its_own(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "datasets--lab--x/blobs", tmp_path / "datasets--lab--x/snapshots/abc"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted((published() / "whole").rglob("*"))):
        if path.is_file():
            link = snapshot / path.relative_to(published() / "whole")
            link.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, blobs / f"{number}")
            link.symlink_to(os.path.relpath(blobs / f"{number}", link.parent))
    assert Warehouse(snapshot).sql("SELECT count(*) FROM measurements").item() == 864


def test_a_log_beside_the_small_file_is_no_part_of_it(copy: Path) -> None:
    (copy / f"{SMALL_FILE}.wal").write_bytes(b"")
    with pytest.raises(SelfRepairError, match=r"another program has warehouse\.duckdb open for writing, or left a log"):
        Warehouse(copy).runs()


@pytest.mark.parametrize("size", ["Infinity", "NaN", '"x"', "[]"])
def test_a_size_that_is_none_is_refused(size: str, tmp_path: Path) -> None:
    text = f'{{"selfrepair_publication": 1, "files": {{"{SMALL_FILE}": {{"size": {size}, "sha256": ""}}}}}}'
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(SelfRepairError, match="no publication of selfrepair's making"):
        Warehouse(tmp_path).runs()


def test_a_manifest_without_end_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(SelfRepairError, match="no publication of selfrepair's making"):
        Warehouse(tmp_path).runs()


def test_what_is_damaged_is_not_published(tmp_path: Path) -> None:
    db = Path(shutil.copy(published() / "w.duckdb", tmp_path))
    with duckdb.connect(str(db)) as con:
        con.execute("UPDATE measurements SET repair_mlp = repair_mlp + 1 WHERE run_id = 2 AND prompt_id = 0")
    refused = pytest.raises(SelfRepairError, match=r"nothing was published, since it is not so that .* such as run 2")
    with Session(db) as session, refused:
        publish(session, tmp_path / "all", Options())
    assert [path.name for path in tmp_path.iterdir()] == ["w.duckdb"]
    _refuse_damaged(db, [1])


@pytest.mark.parametrize(
    ("command", "is_local"),
    [
        ("selfrepair ingest --model EleutherAI/pythia-70m --dataset a/b --seed 1", False),
        ("selfrepair ingest --model=org/name --heads L1H2,L3H4", False),
        ("selfrepair ingest --dataset /home/ann/x.jsonl", True),
        ("selfrepair ingest --dataset=/home/ann/x.jsonl", True),
        ("selfrepair ingest --dataset file:///home/ann/x.jsonl", True),
        ("selfrepair ingest --dataset json:/home/ann/x.jsonl", True),
        ("selfrepair ingest --dataset C:/Users/ann/x.jsonl", True),
        (r"selfrepair ingest --dataset 'C:\Users\ann'", True),
        ("selfrepair ingest --dataset ann@box:~/x", True),
        ("selfrepair ingest --parts s3://lab-of-ann/x", True),
        ("selfrepair ingest --dataset x/../../ann", True),
        ("selfrepair ingest 'unfinished", True),
    ],
)
def test_a_command_that_names_a_place_on_a_machine(command: str, is_local: bool) -> None:
    assert _names_a_place(command) == is_local


@pytest.mark.parametrize("title", ["plain", "é 😀", 'a "b": [c] # {d}', "a\nb: c", "\x07\u2028\ud800x"])
def test_the_header_of_a_card_is_yaml_whatever_the_title(title: str) -> None:
    yaml = pytest.importorskip("yaml", reason="comes with the extras for models and documents")
    from datetime import date

    text = _header([], About(title, None, False, "1", date(2026, 1, 1)), title)
    text.encode()
    found = yaml.safe_load(text.strip("-"))
    assert found["pretty_name"].split() == "".join(one if one.isprintable() else " " for one in title).split()
