"""The commands as they are typed."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from selfrepair.ingest.cli.models import models
from selfrepair.warehouse.cli import commands
from selfrepair.warehouse.database.connection import open_writer
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.registry import refresh
from selfrepair.warehouse.parts.activity import measuring
from selfrepair.warehouse.verify.rules import rules
from support.hostile import COMMANDS
from support.loaded import load_rows as load

HOLD = """
import duckdb, sys
with duckdb.connect(sys.argv[1]):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def call(db):
    def _call(command, *args: object):
        return CliRunner().invoke(command, [*map(str, args), "--db", str(db)], catch_exceptions=False)

    return _call


@pytest.fixture
def loaded(fabricate, db, root):
    fabricate().write(root)
    load(db, root)
    return db


def test_load_finds_the_folder_beside_the_warehouse(fabricate, call, db, root):
    fabricate().write(root)
    said = call(commands.load).output
    assert re.fullmatch(
        r"loaded 2 units, 864 rows and 3 cross-checked cells in [\d.]+ s\n.* holds 1 run, 864 rows\n", said
    )
    assert call(commands.load).output == (
        f"nothing to load: there is no folder {root}; part files are removed once they are loaded\n"
        f"{db} now holds 1 run, 864 rows\n"
    )


@pytest.mark.slow
def test_load_takes_another_folder_and_can_keep_it(fabricate, call, tmp_path):
    parts = fabricate().write(tmp_path / "elsewhere")
    assert "loaded 2 units" in call(commands.load, parts.root, "--keep-parts").output
    assert parts.finished_units() == {0, 1}
    assert (
        f"nothing new in {parts.root}: every finished unit in it is loaded already\n"
        in call(commands.load, parts.root).output
    )


@pytest.mark.slow
def test_a_folder_that_was_named_can_be_loaded_again(fabricate, call, db, tmp_path):
    parts = fabricate().write(tmp_path / "elsewhere")
    for expected in ("loaded 2 units", f"nothing to load: no part files in {parts.root}; they are removed once"):
        result = call(commands.load, parts.root)
        assert result.exit_code == 0
        assert result.output.startswith(expected)
        assert result.output.endswith(f"{db} now holds 1 run, 864 rows\n")
    assert list(parts.root.iterdir()) == []


def test_load_of_a_folder_that_is_not_there(call, db, loaded, root, tmp_path):
    nowhere = tmp_path / "nowhere"
    for _ in ("the warehouse is there", "it is not"):
        with pytest.raises(
            SelfRepairError,
            match=re.escape(f"there is no folder {nowhere}. Nothing was loaded. Name the folder that ingest wrote"),
        ):
            call(commands.load, nowhere)
        db.unlink(missing_ok=True)
    assert not db.exists()
    with pytest.raises(SelfRepairError, match=r"there is no folder of parts at .*, and no warehouse at"):
        call(commands.load)


def test_load_of_a_folder_of_something_else(call, loaded, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    with pytest.raises(SelfRepairError, match=r"texts has no part files: it holds a.txt. Nothing was loaded"):
        call(commands.load, tmp_path / "texts")


def test_remove_with_a_folder_that_is_not_there(call, loaded, tmp_path):
    result = call(commands.remove, 1, "--yes", "--parts", tmp_path / "nowhere")
    assert result.exit_code == 2
    assert "does not exist" in result.output
    assert "1 run, 864 rows" in call(commands.verify).output


def test_load_takes_the_folder_of_a_single_run(fabricate, call, root):
    fabricate("run-a").write(root)
    kept = fabricate("run-b", seed=2).write(root)
    assert call(commands.load, root / "run-a").output.startswith("loaded 2 units")
    again = call(commands.load, root / "run-a")  # which is gone now: loading twice does no harm
    assert (again.exit_code, again.output.partition(":")[0]) == (0, "nothing to load")
    assert kept.finished_units() == {0, 1}


def test_load_waits_as_long_as_it_is_told(fabricate, call, db, root, spawn):
    with open_writer(db):
        pass
    holder = spawn(
        "import duckdb, sys\nwith duckdb.connect(sys.argv[1]):\n    print('open', flush=True)\n    sys.stdin.read()", db
    )
    assert holder.stdout.readline() == "open\n"
    fabricate().write(root)
    with pytest.raises(SelfRepairError, match=rf"in use by process {holder.pid} .* 0\.1 seconds"):
        call(commands.load, "--wait", "0.1")


def test_verify_of_a_sound_warehouse(call, loaded):
    result = call(commands.verify)
    assert result.exit_code == 0
    assert "no row appears twice" in result.output
    assert result.output.endswith(f"\nall {len(rules())} rules hold: {loaded} holds 1 run, 864 rows\n")


def test_verify_of_a_corrupt_warehouse_exits_with_1(call, loaded):
    with open_writer(loaded) as con:
        con.execute("DELETE FROM tokens WHERE pos = 0")
    result = call(commands.verify)
    assert result.exit_code == 1
    assert re.search(r"^each prompt has all its tokens +NO +6 violations, such as run 1, ", result.output, re.MULTILINE)
    assert result.stderr == (
        f"\n1 of {len(rules())} rules are violated: {loaded} holds 1 run, 864 rows, some of them wrong. Restore a copy, or "
        "remove the run and measure it again: selfrepair remove RUN_ID\n"
    )


def test_runs(fabricate, call, loaded, root):
    run = fabricate("run-b", ablations=("mean",))
    record = replace(run.record, selected_heads=("L0H1", "L2H0", "L2H1", "L2H2", "L2H3"), logit_of="answer_minus_foil")
    record = replace(record, given_heads=("L1H0", "L1H2"), mechanisms=("edges", "neurons_last"))
    record = replace(record, checks="identity, cross-check (plain forwards)")
    replace(run, record=record).write(root, units=[1], crosscheck=False)
    load(loaded, root)
    lines = call(commands.runs).output.splitlines()
    assert lines[0].split() == [
        *("run_id", "model", "dataset", "prompts", "seq_len", "rows", "ablations", "heads", "given", "mechanisms"),
        *("dtype", "status", "identity_error_max", "crosscheck_error_max", "checks", "started_at_utc"),
    ]
    model = "tiny-model@a1b2c3 step 143000"
    assert " ".join(lines[2].split()) == (
        f"1 {model} tiny-text/heldout 6 5 864 resample, mean, zero all L0H3 - "
        "float32 complete 1.3e-05 3.5e-05 identity, cross-check (TransformerBridge) 2026-03-04 05:06:07"
    )
    assert " ".join(lines[3].split()) == (
        f"2 {model} tiny-text/heldout (answer_minus_foil) 6 5 144 of 288 mean layer 2, L0H1 L1H0, L1H2 "
        "edges, neurons_last float32 incomplete 1.3e-05 - identity, cross-check (plain forwards) 2026-03-04 05:06:07"
    )


def test_a_run_that_is_not_whole_says_why_and_how_to_continue(fabricate, call, loaded, root):
    run = fabricate("run-b", seed=2)
    parts = run.write(root, units=[1], crosscheck=False)
    load(loaded, root)
    with measuring(parts.path):
        said = call(commands.runs).output
        assert said.splitlines()[3].split().count("running") == 1
        assert "To continue" not in said
    with pytest.raises(RuntimeError), measuring(parts.path):
        raise RuntimeError("the machine is on fire")
    said = call(commands.runs).output
    assert said.splitlines()[3].split().count("stopped") == 1
    assert said.endswith(
        "\nrun 2 is stopped: the machine is on fire. To continue it: selfrepair ingest --model tiny-model --seed 2 --db "
        f"{loaded}\n"
    )
    parts.remove([], is_whole=True)
    said = call(commands.runs).output
    assert said.splitlines()[3].split().count("incomplete") == 1
    assert f"run 2 is incomplete: there is no {parts.path}, so that it is unknown" in said
    with open_writer(loaded) as con:
        con.execute("UPDATE crosschecks SET error_max = 0.25 WHERE run_id = 1 AND prompt_id = 0")
        refresh(con, 1)
    said = call(commands.runs).output
    assert "\nrun 1 is failed: its cross-check differs by 0.25 logits (0.002 are allowed)" in said
    assert f"selfrepair remove 1 --db {loaded}\n" in said


def test_what_a_file_says_of_a_run_does_nothing_to_the_terminal(fabricate, call, loaded, root):
    run = fabricate("run-b", seed=2)
    parts = run.write(root, units=[1], crosscheck=False)
    load(loaded, root)
    (parts.path / "measuring.lock").touch()
    (parts.path / "stopped.txt").write_text("a\x1b]0;b\x07")
    for command in COMMANDS:
        with open_writer(loaded) as con:
            con.execute("UPDATE runs SET command = ? WHERE run_id = 2", [command])
        said = call(commands.runs).output
        assert said.endswith("is stopped: a\\x1b]0;b\\x07. To continue it: the ingest command or call that began it\n")
    with open_writer(loaded) as con:
        con.execute("UPDATE runs SET run_key = '../w\x1b' WHERE run_id = 2")
    said = call(commands.runs).output
    assert "run 2 is incomplete: its key '../w\\x1b' names no folder of part files" in said
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [80, 100])
def test_runs_on_a_narrow_terminal_have_every_name_and_value_whole(call, loaded, capsys, monkeypatch, width):
    names = call(commands.runs).output.splitlines()[0].split()
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    commands.runs.callback(db=loaded, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names
    assert [line.partition("  ")[2].strip() for line in lines][:6] == [
        *("1", "tiny-model@a1b2c3 step 143000", "tiny-text/heldout", "6", "5", "864")
    ]
    assert max(map(len, lines)) <= width


def test_models(call, loaded):
    lines = call(models).output.splitlines()
    assert lines[0].split()[:6] == ["model_id", "name", "revision", "checkpoint", "architecture", "n_layers"]
    assert lines[2].split() == [
        *("1", "tiny-model", "a1b2c3", "143,000", "TinyForCausalLM", "3", "4", "2", "24", "rmsnorm", "31,415", "1")
    ]


@pytest.mark.parametrize("command", [commands.runs, models])
def test_an_empty_warehouse_says_how_to_fill_it(call, db, command):
    with open_writer(db):
        pass
    assert call(command).output.startswith(f"{db} holds no run yet. Measure one (selfrepair demo --db {db}), or load ")


@pytest.mark.parametrize("command", [commands.runs, models, commands.verify])
def test_a_missing_warehouse_is_an_error_with_a_next_step(call, command):
    with pytest.raises(SelfRepairError, match=r"there is no warehouse at .*selfrepair demo"):
        call(command)


def test_the_warehouse_can_be_named_in_the_environment(loaded, monkeypatch):
    monkeypatch.setenv("SELFREPAIR_DB", str(loaded))
    assert "tiny-model" in CliRunner().invoke(models).output


def test_help_needs_nothing_but_click():
    script = (
        "import sys, selfrepair.warehouse.cli.commands\n"
        "print(sorted({'duckdb', 'sqlalchemy', 'pyarrow', 'rich', 'torch'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_the_warehouse_needs_no_torch():
    script = (
        "import sys, pkgutil, importlib, selfrepair.warehouse as package\n"
        "for module in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'selfrepair.warehouse.{module.name}')\n"
        "ours = {name for name in sys.modules if name.startswith('selfrepair.')}\n"
        "print('torch' in sys.modules, sorted(name for name in ours if not name.startswith('selfrepair.warehouse')))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False []\n"
