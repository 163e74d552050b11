"""A publication in a folder: the numbers of the warehouse it was made of, whoever opens it and with what, and nothing else."""

import json
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from polars.testing import assert_frame_equal

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.export.publication import Options, publish
from selfrepair.queries.sandbox.session import Session
from selfrepair.warehouse.database.connection import open_reader
from selfrepair.warehouse.database.publication import MANIFEST, SMALL_FILE
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema import MEASURED_TABLES
from selfrepair.warehouse.verify.verification import verify
from support.loaded import loaded
from support.publications import MODEL, WORD, published

TOKEN = re.compile(r"\bt\d{1,3}\b")
"""Every token that `fabricate` makes up."""


@pytest.fixture(scope="module")
def made() -> Path:
    return published()


@pytest.fixture(scope="module")
def db(made: Path) -> Path:
    return made / "w.duckdb"


@pytest.fixture(scope="module")
def folder(made: Path) -> Path:
    return made / "whole"


def sorted_frame(frame: pl.DataFrame) -> pl.DataFrame:
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Struct)]
    return frame.with_columns(pl.col(lists).map_elements(str, pl.String)).sort(by=pl.all(), nulls_last=True)


@pytest.mark.parametrize(
    "name", ["head_repair", "self_repair", "head_tail", "who_repairs", "prompt_repair", *MEASURED_TABLES]
)
def test_it_has_the_numbers_of_the_warehouse(name: str, db: Path, folder: Path) -> None:
    wanted, found = (sorted_frame(Warehouse(path).view(name)) for path in (db, folder))
    assert found.height > 0
    assert_frame_equal(found, wanted, rel_tol=1e-9, abs_tol=1e-12)


def test_python_asks_it_as_any_warehouse(db: Path, folder: Path) -> None:
    mine, theirs = Warehouse(folder), Warehouse(db)
    assert repr(mine) == f"<Warehouse {folder}: run 1 of tiny-model, run 2 of {MODEL}>"
    top = [warehouse.rows("tiny-model", head="L1H2", top=7) for warehouse in (mine, theirs)]
    assert_frame_equal(*top)
    rows = [warehouse.question("strongest_rows", run="baseline", head="L1H2") for warehouse in (mine, theirs)]
    assert_frame_equal(*rows)
    assert mine.runs()["note"].to_list() == ["says t1 t2", None]
    with mine.engine().connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM measurements").scalar_one() == 2 * 3 * 4 * 36
    assert [check for check in verify(folder) if check.ok][1:] == [check for check in verify(db) if check.ok]


def test_what_names_a_machine_is_left_out(folder: Path) -> None:
    found = Warehouse(folder).sql("SELECT run_id, command, host, worker FROM runs JOIN units USING (run_id) ORDER BY 1")
    assert found.rows() == [(1, "selfrepair ingest --model tiny-model --seed 11", None, None), (2, None, None, None)]


def test_plain_duckdb_finds_the_rows_in_its_folder_and_where_it_is_told(folder: Path, tmp_path: Path) -> None:
    code = (
        f"import duckdb; con = duckdb.connect({str(folder / SMALL_FILE)!r}, read_only=True); "
        "print(con.sql('SELECT count(*), sum(self_repair) FROM self_repair').fetchall())"
    )
    told = code.replace("print", f"con.execute(\"SET VARIABLE selfrepair_files = '{folder}/'\"); print")
    printed = [
        subprocess.run([sys.executable, "-c", text], cwd=where, capture_output=True, text=True, check=True).stdout
        for text, where in ((code, folder), (told, tmp_path))
    ]
    expected = Warehouse(folder).sql("SELECT count(*), sum(self_repair) FROM self_repair").rows()
    assert printed == [f"{expected}\n"] * 2


def test_parquet_lies_by_run_and_head(db: Path, folder: Path) -> None:
    frame = pl.read_parquet(folder / "measurements/run_id=2/rows.parquet", hive_partitioning=False)
    assert frame.columns == [column.name for column in relations()["measurements"].columns]
    assert frame["run_id"].unique().to_list() == [2]
    assert frame.select("layer", "head").rows() == sorted(frame.select("layer", "head").rows())
    assert not (folder / "edge_sums/run_id=2").exists(), "it measured none"
    wanted = Warehouse(db).view("layer_repair").height
    assert pl.read_parquet(folder / "layer_repair/rows.parquet").height == wanted


def test_the_card_says_how_it_was_measured(folder: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    header = card.split("---\n")[1]
    assert 'license: "cc-by-4.0"' in header
    assert '- config_name: head_repair\n  data_files: "head_repair/rows.parquet"\n  default: true\n' in header
    assert '- config_name: measurements\n  data_files: "measurements/run_id=*/rows.parquet"\n' in header
    assert "# Self\\-repair" in card or "# Self-repair of tiny-model" in card
    assert "| model | hub/mod el=1%é" in card
    for text in ("| software | torch 2.13.0, selfrepair 0.1.0 |", "@inproceedings", "| crosscheck_error_max |"):
        assert text in card
    assert "/home/ann" not in card


def test_the_word_is_in_what_has_text(folder: Path) -> None:
    assert Warehouse(folder).sql(f"SELECT count(*) FROM tokens WHERE target LIKE '{WORD} %'").item() == 24
    names = ("tokens/run_id=1", "prompts/run_id=2")
    assert all(WORD in str(pl.read_parquet(folder / name / "rows.parquet").rows()) for name in names)
    assert all(b"ferret" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_without_text_nothing_can_be_read_anywhere(made: Path) -> None:
    folder = made / "bare"
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert b"tiny-text" not in data, f"{path.name} has the name of the data set"
            assert b"says t1" not in data
            assert WORD.encode() not in data
    for path in folder.rglob("*.parquet"):
        parquet = pq.ParquetFile(path)
        assert WORD not in str([parquet.metadata.row_group(n).to_dict() for n in range(parquet.num_row_groups)])
        for series in pl.read_parquet(path, hive_partitioning=False).iter_columns():
            text = " ".join(map(str, series.to_list()))
            assert not TOKEN.search(text), (path, series.name)
            assert WORD not in text, (path, series.name)
    with open_reader(folder) as con:
        tables = con.execute(
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal UNION ALL "
            "SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND list_contains(?, view_name)",
            [[*MEASURED_TABLES, "self_repair", "top_effect", "neuron_top_rows"]],
        ).fetchall()
        assert ("selfrepair_marts", "ranked_top_rows") in tables
        for schema, name in tables:
            text = str(con.execute(f'FROM {schema}."{name}"').fetchall())
            assert not TOKEN.search(text), name
            assert WORD not in text, name
        ids = con.execute("SELECT max(token_id), max(target_id), max(foil_id), count(*) FROM tokens").fetchall()
        assert ids == [(None, None, None, 12)]
        lengths = con.execute("SELECT DISTINCT token_ids, text FROM prompts").fetchall()
        assert lengths == [([None] * 5, "")], "nothing of a prompt but its length"
        assert con.execute("SELECT name, split, revision, fingerprint FROM datasets").fetchall() == [
            ("withheld-1", None, None, "withheld")
        ]
    assert "Text is withheld" in (folder / "README.md").read_text()


def test_without_text_the_numbers_are_the_same(made: Path, db: Path) -> None:
    query = "SELECT * EXCLUDE (model) FROM repair_by_token WHERE run_id = 1 ORDER BY ALL"
    assert_frame_equal(Warehouse(made / "bare").sql(query), Warehouse(db).sql(query))
    wanted = [check.name for check in verify(db) if check.ok]
    assert [check.name for check in verify(made / "bare") if check.ok][1:] == wanted


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write there, and nothing is there afterwards that was not before."""
    before = sorted(folder.rglob("*"))
    modes = {path: path.stat().st_mode for path in (folder, *before)}
    for path, mode in modes.items():
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        yield
        assert sorted(folder.rglob("*")) == before
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


def test_a_copy_that_nobody_can_write_opens_for_everyone(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "it's [a] copy"
    shutil.copytree(folder, copy)
    with read_only(copy):
        frame = Warehouse(copy).sql("SELECT max(self_repair) AS most FROM self_repair")
        result = CliRunner().invoke(main, ["runs", "--db", f"{copy}/"])
        assert (result.exit_code, "baseline" in result.stdout) == (0, True), result.output
        assert Warehouse(copy / SMALL_FILE).path == copy
    assert_frame_equal(frame, Warehouse(folder).sql("SELECT max(self_repair) AS most FROM self_repair"))


def changed(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / MANIFEST).unlink(), f"{MANIFEST}, which is written last, is missing"),
        (lambda folder: (folder / "tokens/run_id=1/rows.parquet").unlink(), "tokens/run_id=1/rows.parquet is missing"),
        (lambda folder: changed(folder, "prompts/run_id=2/rows.parquet"), "has 0 of"),
        (lambda folder: (folder / SMALL_FILE).unlink(), f"{SMALL_FILE} is missing"),
    ],
)
def test_half_of_one_says_so(spoil: Callable[[Path], Any], said: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    spoil(copy)
    with pytest.raises(SelfRepairError, match="a publication that is not whole") as raised:
        Warehouse(copy).runs()
    assert said in str(raised.value)
    assert "selfrepair publish" in str(raised.value)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", ".hidden", "a//b", "C:\\x"])
def test_a_manifest_names_files_of_its_folder_alone(name: str, tmp_path: Path) -> None:
    entry = {"size": 0, "sha256": ""}
    (tmp_path / MANIFEST).write_text(
        json.dumps({"selfrepair_publication": 1, "files": {name: entry, SMALL_FILE: entry}})
    )
    with pytest.raises(SelfRepairError, match="no publication of selfrepair's making"):
        Warehouse(tmp_path).runs()


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "no publication of"), ('{"selfrepair_publication": 2, "files": {}}', "published by a newer selfrepair")],
)
def test_a_manifest_that_cannot_be_read_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(SelfRepairError, match=said):
        Warehouse(tmp_path).runs()


@pytest.mark.parametrize("reads", ["/etc/passwd", "{folder}/../secret.csv", "{folder}/notes.csv"])
def test_its_own_files_are_all_that_it_reads(reads: str, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for name in ("secret.csv", "copy/notes.csv"):
        (tmp_path / name).write_text("a\n1\n")
    of_another_version(copy, tmp_path / "evil", f"CREATE VIEW evil AS FROM read_csv('{reads.format(folder=copy)}')")
    with pytest.raises(SelfRepairError, match="file system operations are disabled"):
        Warehouse(tmp_path / "evil").sql("FROM evil")


def of_another_version(folder: Path, copy: Path, change: str) -> Path:
    """A copy whose small file was changed, and is the one that the manifest names."""
    shutil.copytree(folder, copy)
    with duckdb.connect(str(copy / SMALL_FILE)) as con:
        con.execute(change)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"][SMALL_FILE]["size"] = (copy / SMALL_FILE).stat().st_size
    (copy / MANIFEST).write_text(json.dumps(manifest))
    return copy


def test_what_another_version_published_says_so(folder: Path, tmp_path: Path) -> None:
    older = of_another_version(folder, tmp_path / "a", "DELETE FROM schema_migration WHERE version > 12")
    with pytest.raises(
        SelfRepairError, match=r"schema 12 and this .* an earlier version published it\. Publish it again"
    ):
        Warehouse(older).runs()
    other = of_another_version(folder, tmp_path / "b", "UPDATE selfrepair_marts.installed SET marts = 'other'")
    notes: list[str] = []
    found = Warehouse(other, on_note=notes.append).view("layer_repair", run=1)
    assert_frame_equal(sorted_frame(found), sorted_frame(Warehouse(folder).view("layer_repair", run=1)), rel_tol=1e-9)
    assert [note.partition(",")[0] for note in notes] == ["another version of selfrepair published this"]
    assert "text" not in notes[0]


def test_what_another_version_published_without_text_says_what_is_wrong_now(made: Path, tmp_path: Path) -> None:
    copy = of_another_version(made / "bare", tmp_path / "a", "UPDATE selfrepair_marts.installed SET marts = 'other'")
    notes: list[str] = []
    Warehouse(copy, on_note=notes.append).runs()
    assert "the text is withheld, so classes of tokens (repair_by_token) are wrong" in notes[0]


WRITING = (
    ["load"],
    ["refresh"],
    ["remove", "1", "--yes"],
    ["name", "1", "other"],
    ["note", "1", "text"],
    ["tag", "1", "word"],
)


@pytest.mark.parametrize("command", WRITING, ids=lambda command: command[0])
def test_what_writes_is_refused(command: list[str], folder: Path) -> None:
    result = CliRunner().invoke(main, [*command, "--db", str(folder)])
    assert result.exit_code == 1
    assert f"{folder} is a publication, which is only read. Name a file of your own: --db" in result.output


def test_a_merge_needs_a_file_before_it_and_text(made: Path, folder: Path, tmp_path: Path) -> None:
    target, mine = tmp_path / "all.duckdb", made / "w.duckdb"
    refused = {
        "name a file of your own before it": (folder, mine),
        "was published without its text": (mine, made / "bare"),
    }
    for said, sources in refused.items():
        result = CliRunner().invoke(main, ["merge", *map(str, sources), "-o", str(target)])
        assert said in result.output
        assert not target.exists()


@pytest.mark.slow
def test_runs_of_one_are_merged_into_a_file(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "all.duckdb"
    result = CliRunner().invoke(main, ["merge", str(loaded(tmp_path)), str(folder), "-o", str(target)])
    assert "is run 3: with its summaries" in result.output
    query = "SELECT max(self_repair) AS most FROM self_repair WHERE model LIKE 'hub%'"
    assert_frame_equal(Warehouse(target).sql(query), Warehouse(folder).sql(query))


def test_the_command_publishes_a_run_by_name(made: Path, db: Path) -> None:
    said = (made / "said").read_text()
    assert re.search(r"^published run 1 in .*bare: selfrepair app --db .*bare\n\n", said)
    assert "measurements: 432 rows\n" in said
    assert "no --licence is given: the card says so" in said
    card = (made / "bare/README.md").read_text()
    assert 'pretty_name: "T <b>"\nlicense: "unknown"\n' in card
    assert "# T \\<b\\>\n" in card
    again = CliRunner().invoke(main, ["publish", str(made / "bare"), "--db", str(db), "--licence", "mit"])
    assert "is there already and would be mixed with this publication" in again.output


def test_what_is_not_complete_or_summarised_is_not_published(db: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(db, tmp_path))
    with duckdb.connect(str(copy)) as con:
        con.execute("UPDATE runs SET status = 'failed' WHERE run_id = 2")
        con.execute("DELETE FROM selfrepair_marts.refreshed WHERE run_id = 1")
    with Session(copy) as session:
        with pytest.raises(SelfRepairError, match="run 2 is failed, and only what is complete is published"):
            publish(session, tmp_path / "x", Options(runs=["2"]))
        with pytest.raises(
            SelfRepairError, match=r"the summaries of run 1 are missing or out of date: selfrepair refresh"
        ):
            publish(session, tmp_path / "x", Options())
    assert [path.name for path in tmp_path.iterdir()] == ["w.duckdb"]
