"""The page of ingests: how far each run is, and commands that go on with it when they are typed."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.app.data.part_files import unloaded_runs
from selfrepair.app.data.resume_command import missing_options, resume_command, run_row
from selfrepair.ingest.cli import session
from selfrepair.ingest.request import devices, model_shape
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.selection import parse_heads
from selfrepair.warehouse.load.loader import load
from selfrepair.warehouse.parts.activity import measuring
from support.empty import installed
from support.fabricate import fabricate
from support.loaded import loaded
from support.pages import opened, said
from support.templates import copied

OF_VERSION_0_1 = {"command": None, "config_sha256": None}
HALF = fabricate("half", model="half-model", seed=3, n_units=4)


@pytest.fixture
def half(tmp_path: Path) -> Path:
    """A warehouse with two of a run's four units; a third waits in part files."""

    def make(folder: Path) -> None:
        load(installed(folder), HALF.write(folder / "parts", [0, 1], crosscheck=False).root)

    db = copied(tmp_path, "half-a-run", make)
    HALF.write(tmp_path / "w.duckdb.parts", [2], crosscheck=False)
    return db


def progress(text: str) -> list[str]:
    return [line for line in text.splitlines() if "units measured" in line]


def told(run: Mapping[str, Any], db: str = "w.duckdb") -> str:
    command = resume_command(run, Path(db))
    assert command is not None
    return command


def bars(app: object) -> list[tuple[int, str]]:
    return [(bar.proto.value, bar.proto.text) for bar in app.get("progress")]  # type: ignore[attr-defined]


def test_progress_counts_what_is_loaded_and_what_waits(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("ingests", half, monkeypatch)
    assert bars(app) == [(75, "3 of 4 units measured, 2 loaded; 1,296 of 1,728 rows")]
    assert [code.value for code in app.code][:2] == [
        f"selfrepair load --db {half}",
        resume_command(run_row(HALF.record), half),
    ]
    assert "half\\-model" in said(app)


def test_a_run_that_is_only_in_part_files_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HALF.write(tmp_path / "w.duckdb.parts", [0], crosscheck=False)
    app = opened("ingests", tmp_path / "w.duckdb", monkeypatch)
    assert bars(app) == [(25, "1 of 4 units measured, 0 loaded; 432 of 1,728 rows")]
    assert not app.error
    assert not (tmp_path / "w.duckdb").exists()


def test_finished_runs_are_listed_as_the_views_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db = loaded(tmp_path)
    app = opened("ingests", db, monkeypatch)
    assert bars(app) == []
    listed = app.dataframe[0].value.to_dict("records")[0]
    (health,) = Warehouse(db).view("run_health").to_dicts()
    assert {name: listed[name] for name in ("model", "status", "rows_loaded", "rows_expected", "health")} == {
        name: health[name] for name in ("model", "status", "rows_loaded", "rows_expected", "health")
    }
    assert (listed["units_loaded"], listed["n_units"]) == (2, 2)


@pytest.mark.slow
def test_when_all_is_measured_the_command_finishes_the_cross_check(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    HALF.write(Path(f"{half}.parts"), [2, 3], crosscheck=False)
    load(half, Path(f"{half}.parts"))
    app = opened("ingests", half, monkeypatch)
    assert bars(app) == [(100, "4 of 4 units measured, 4 loaded; 1,728 of 1,728 rows")]
    assert "finishes the cross-check" in said(app)


def test_without_anything_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened("ingests", tmp_path / "none.duckdb", monkeypatch)
    assert f"selfrepair demo --db {tmp_path / 'none.duckdb'}" in said(app)


def test_no_button_starts_anything(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {button.label for button in opened("ingests", half, monkeypatch).button}
    assert labels == set()


@pytest.mark.slow
def test_part_files_that_cannot_be_read_are_named(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(f"{half}.parts") / "altered"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    app = opened("ingests", half, monkeypatch)
    assert "altered/run.json" in app.warning[0].value.replace("\\", "")
    assert len(bars(app)) == 1


@pytest.mark.parametrize(
    "heads",
    [
        [f"L{layer}H{head}" for layer in range(3) for head in range(4)],
        ["L0H0", "L0H1", "L0H2", "L0H3", "L2H1"],
        ["L1H2"],
    ],
)
@pytest.mark.parametrize(("revision", "checkpoint"), [("step512", 512), ("v1", None), (None, None)])
@pytest.mark.parametrize(
    ("mechanisms", "neurons"),
    [
        (None, "none"),
        (["self_repression"], "none"),
        (["neurons_last", "logit_lens"], "last"),
        (["edges", "neurons_all", "logprobs"], "all"),
    ],
)
def test_the_command_asks_for_the_run_that_is_written_down(
    heads: list[str],
    revision: str | None,
    checkpoint: int | None,
    mechanisms: list[str] | None,
    neurons: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = run_row(HALF.record) | {"selected_heads": heads, "revision": revision, "checkpoint": checkpoint}
    run |= {"model": "it's a model", "ablations": ["mean"], "mechanisms": mechanisms} | OF_VERSION_0_1
    requests: list[IngestRequest] = []
    monkeypatch.setattr(session, "ingest", lambda request, **rest: requests.append(request))
    monkeypatch.setattr(model_shape, "check_fits_model", lambda request: None)  # there is no such model,
    monkeypatch.setattr(devices, "check_device", lambda name, dtype: None)  # and no such device here
    program, *words = shlex.split(told(run, "a b.duckdb"))
    assert program == "selfrepair"
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
    (request,) = requests
    chosen = parse_heads(request.layers, request.heads, 3, 4)
    assert [f"L{layer}H{head}" for layer, head in chosen] == heads
    given = {name: value for name, value in asdict(request).items() if name not in ("layers", "heads")}
    assert given == {
        "model": "it's a model",
        "dataset": "tiny-text",
        "split": "heldout",
        "n_prompts": 12,
        "seq_len": 5,
        "ablation": "mean",
        "revision": None if checkpoint is not None else revision,
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "trust_remote_code": False,
        "series": None,
        "name": None,
        "dtype": "float32",
        "device": "cuda",
        "devices": None,
        "ray": None,
        "ray_cpus": None,
        "batch_size": "auto",
        "seed": 3,
        "shard": None,
        "given": "L0H3",
        "mechanisms": False,
        "neurons": neurons,
        **{
            name: name in (mechanisms or ())
            for name in ("edges", "experts", "logit_lens", "logprobs", "self_repression")
        },
        "dataset_revision": "v7",
        "text_column": "text",
        "packing": None,
        "protocol": None,
        "row_group_gb": 2.0,
        "crosscheck": None,
    }


@pytest.mark.parametrize(
    ("packing", "dataset", "words"),
    [
        ("packed", "owner/texts", ["--dataset-revision", "v7"]),
        ("document", "stdlib", ["--packing", "document"]),  # whose revision is that of Python
        ("rushing2024", "owner/texts", ["--dataset-revision", "v7", "--protocol", "rushing2024"]),
        ("none", "random", ["--dataset-revision", "v7"]),
    ],
)
def test_the_command_makes_the_same_prompts(packing: str, dataset: str, words: list[str]) -> None:
    run = run_row(HALF.record) | {"packing": packing, "dataset": dataset} | OF_VERSION_0_1
    found = shlex.split(told(run))
    at = found.index("--split") + 2
    assert found[at : found.index("--prompts")] == words
    assert ("--seq-len" in found) == (packing != "document")  # whose longest prompt may be shorter than what was asked


def test_the_recorded_command_is_taken_as_it_is() -> None:
    command = "selfrepair ingest --model ./my-model --dataset ./texts.jsonl --text-column body --trust-remote-code"
    run = run_row(replace(HALF.record, command=command))
    assert resume_command(run, Path("a b.duckdb")) == f"{command} --db 'a b.duckdb'"
    assert missing_options(run).startswith(
        "Run it in the folder where it was first typed: it names local files. It runs code"
    )
    assert missing_options(run_row(replace(HALF.record, command="selfrepair ingest --model demo"))) == ""


def test_a_record_of_any_age_puts_nothing_into_a_terminal() -> None:
    run = run_row(HALF.record) | {"model": "a\x1b[201~\x7f"}
    assert told(run | {"command": None}).isprintable()
    for changed in ({"command": "x"}, OF_VERSION_0_1):
        run |= changed
        assert resume_command(run, Path("w.duckdb")) is None
        assert missing_options(run).endswith("Repeat the command or call that began it.")


def test_what_version_0_1_did_not_write_down_is_to_be_added() -> None:
    run = run_row(HALF.record) | OF_VERSION_0_1 | {"packing": "document"}
    assert "--seq-len" not in told(run)
    assert re.search("full path.*--text-column or --trust-remote-code.*Also --seq-len", missing_options(run))


def test_a_run_from_python_is_continued_by_its_call() -> None:
    run = run_row(replace(HALF.record, command=None, ablations=("mean",)))
    assert resume_command(run, Path("w.duckdb")) == (
        'measure(model, prompts, ablations="mean", given="L0H3", seed=3, model_name="half-model", dataset_name="tiny-text", '
        'into="w.duckdb")'
    )
    assert "repeat the call, with the same model, prompts and tokenizer" in missing_options(run)


def test_a_run_says_whether_it_is_measured_and_why_not(half: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(f"{half}.parts") / "half"
    with measuring(folder):
        app = opened("ingests", half, monkeypatch)
        assert app.dataframe[0].value["status"].to_list() == ["running"]
        assert "A process is measuring it." in said(app)
        assert re.search(
            r"finished on abacus at 20.{14} UTC\. Left: about [34] s at 123 rows/s, for what is", said(app)
        )
    with pytest.raises(MemoryError), measuring(folder):
        raise MemoryError("no room for layer 3")
    app.run()
    assert app.dataframe[0].value["status"].to_list() == ["stopped"]
    assert "Stopped: no room for layer 3. Continue it" in said(app)


def test_part_files_are_only_read(half: Path) -> None:
    root = Path(f"{half}.parts")
    before = sorted(root.rglob("*"))
    runs, wrong = unloaded_runs(root)
    assert (list(runs), wrong) == (["half"], [])
    assert {number: unit.rows for number, unit in runs["half"].units.items()} == {2: 432}
    assert sorted(root.rglob("*")) == before
    assert unloaded_runs(root / "none") == ({}, [])
