"""Make what selfrepair 0.1.0 leaves on a user's disk, packed as a fixture for the tests of later versions.

    python make_fixture.py FOLDER

Run it with the Python of an environment that holds selfrepair 0.1.0. It makes `FOLDER/version_0_1_0/` with that
version's own commands, and packs it as `FOLDER/version_0_1_0.tar.xz`. In it lie

    sentences.jsonl, token_rows.jsonl, answers.jsonl   the data sets
    warehouse.duckdb                                   two whole runs, and one of whose four units one is loaded
    warehouse.duckdb.parts/                            a second unit of that run, and a run that was never loaded
    expected.json                                      what 0.1.0 answers about it: as packed, loaded, and resumed
    README                                             the commands, and how to read expected.json

On the way 0.1.0 itself must load and resume a copy of the archive as the tests will ask of a later version, or there is
no archive. It takes a few minutes on one core.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import polars as pl
from fixture_recipe import (
    ANSWERS,
    COMMANDS,
    LOAD,
    NAME,
    PARTS,
    RECIPE,
    SENTENCES,
    TOKEN_ROWS,
    VERSION,
    WAREHOUSE,
    readme,
)

from selfrepair.ingest.demo_model import DEMO_FOLDER
from selfrepair.ingest.tokenizer import load_tokenizer
from selfrepair.queries import Warehouse

UNITS_LOADED = {"whole": [0], "given": [0], "unfinished": [0], "waiting": []}
UNITS_WAITING = {"whole": [], "given": [], "unfinished": [1], "waiting": [0, 1, 2]}
UNITS = {"whole": 1, "given": 1, "unfinished": 4, "waiting": 3}

CHECKED_TABLES = {
    "measurements": "run_id, ablation, prompt_id, pos, layer, head, direct_effect, ablated_direct_effect, logit_change, "
    "repair_layernorm, repair_attention, repair_mlp, ln_scale_ratio",
    "tokens": "run_id, prompt_id, pos, token_id, token, target_id, target, clean_logit, clean_logprob, clean_rank, "
    "clean_entropy, clean_ln_scale, foil_id, foil",
    "prompts": "run_id, prompt_id, document_id, partner_id, token_ids, text",
    "layer_guess": "run_id, prompt_id, pos, layer, logit, logprob, rank",
    "logprob_changes": "run_id, ablation, prompt_id, pos, layer, head, logprob_change, kl",
    "head_feedback": "run_id, prompt_id, pos, layer, head, feedback, strength, other_head, direct_effect, fed_effect, "
    "fed_effect_own_scale",
    "feedback_sums": "run_id, prompt_id, layer, head, feedback, strength, n_rows, sum_x, sum_xx, sum_y, sum_xy, sum_yy, "
    "sum_z, sum_xz, sum_zz",
    "edge_sums": "run_id, unit, ablation, layer, head, population, target_kind, target_layer, target_head, n_rows, "
    "change, squared_change",
    "neuron_changes": "run_id, ablation, prompt_id, pos, layer, head, mlp_layer, neuron, clean_effect, ablated_effect, rank",
    "neuron_curves": "run_id, unit, ablation, layer, head, mlp_layer, nth, exceed_50, exceed_10, exceed_5, exceed_2_5, "
    "exceed_1, largest_changes",
    "neuron_sums": "run_id, unit, ablation, layer, head, mlp_layer, n_rows, direct_effect, change, absolute_change, "
    "positive_change, anti_erasure",
    "crosschecks": "run_id, prompt_id, layer, head, ablation, n_rows, error_max",
}
"""Columns of the tables whose rows are summed up in expected.json; `run_id` comes first."""

QUESTIONS = (
    "SELECT run_id, status, rows_expected, rows_loaded, rows_stored, rows_summarised, crosscheck_rows, has_summaries, "
    "n_other_runs, settings_differ FROM run_health ORDER BY run_id",
    "SELECT run_id, model, ablation, population, n_heads, n_prompts, n_rows, mean_direct_effect, mean_removed_effect, "
    "mean_logit_change, mean_self_repair, mean_self_repair_se, total_fraction_of_effect, clipped_total_fraction "
    "FROM model_repair ORDER BY run_id, ablation, population",
    "SELECT run_id, ablation, population, layer, n_rows, mean_direct_effect, mean_self_repair, mean_repair_layernorm, "
    "mean_repair_attention, mean_repair_mlp, clipped_layernorm_fraction FROM layer_repair "
    "ORDER BY run_id, ablation, population, layer",
    "SELECT run_id, ablation, label, n_rows, mean_direct_effect, mean_self_repair, mean_self_repair_se, repaired_share "
    "FROM head_repair WHERE population = 'all' ORDER BY run_id, ablation, layer, head",
    "SELECT run_id, layer, n_rows, mean_guess_logit, mean_guess_logprob, right_share, top10_share, median_rank, "
    "settled_share FROM guess_by_layer ORDER BY run_id, layer",
    "SELECT run_id, label, n_right, n_wrong, mean_self_repair_right, mean_self_repair_wrong FROM repair_by_guess "
    "WHERE ablation = 'mean' AND population = 'all' ORDER BY run_id, layer, head",
    "SELECT run_id, label, strength, n_prompts, n_rows, mean_direct_effect, mean_fed_effect, slope, slope_low, "
    "slope_high, own_scale_slope, other_slope, random_slope, verdict FROM head_feedback_slope "
    "ORDER BY run_id, layer, head, strength",
    "SELECT run_id, base_run_id, given_heads, population, label, n_rows, direct_effect_growth, logit_change_growth "
    "FROM co_ablation ORDER BY run_id, population, layer, head",
    "SELECT run_id, ablation, layer, head, target_kind, target_layer, target_head, n_rows, mean_change "
    "FROM who_repairs WHERE population = 'all' AND ablation = 'mean' AND head = 6 "
    "ORDER BY run_id, layer, head, target_kind, target_layer, target_head",
    "SELECT run_id, ablation, label, mlp_layer, n_rows, mean_direct_effect, mean_change, mean_absolute_change, "
    "share_of_effect, neurons_for_half FROM neuron_summary WHERE ablation = 'mean' AND head = 6 "
    "ORDER BY run_id, layer, head, mlp_layer",
    "SELECT run_id, label, ablation, prompt_id, pos, token, target, foil, direct_effect, self_repair FROM top_effect "
    "WHERE effect_rank = 1 ORDER BY run_id, ablation, layer, head",
)
"""What expected.json holds the whole answers of."""


class FixtureError(Exception):
    """Something that 0.1.0 did is not what the fixture is to hold."""


def main(folder: Path) -> None:
    """Make `folder/version_0_1_0/` anew and pack it."""
    if (found := importlib.metadata.version("selfrepair")) != VERSION:
        raise SystemExit(
            f"this environment holds selfrepair {found}; run it with the Python of one that holds {VERSION}."
        )
    fixture = folder / NAME
    if fixture.exists():
        shutil.rmtree(fixture)
    fixture.mkdir(parents=True)
    write_datasets(fixture)
    keys = follow_recipe(fixture)
    check_as_packed(fixture, keys)
    expected = expectations(fixture, keys)
    (fixture / "expected.json").write_text(laid_out(expected) + "\n", encoding="utf-8")
    (fixture / "README").write_text(readme(expected), encoding="utf-8")
    archive = folder / f"{NAME}.tar.xz"
    pack(fixture, archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


def write_datasets(folder: Path) -> None:
    """Write the three data sets. The tokens are those of the bundled model's own tokenizer, without BOS."""
    write_rows(folder / "sentences.jsonl", ({"text": text} for text in SENTENCES))
    write_rows(
        folder / "answers.jsonl", ({"text": text, "answer": answer, "foil": foil} for text, answer, foil in ANSWERS)
    )
    tokenizer = load_tokenizer(DEMO_FOLDER, trust_remote_code=False)
    assert tokenizer is not None, "the bundled model has a tokenizer"
    token_rows = []
    for length, text in TOKEN_ROWS:
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"][:length]
        if len(tokens) < length:
            raise FixtureError(f"{text!r} has {len(tokens)} tokens, not {length}")
        token_rows.append({"begins": tokenizer.decode(tokens), "tokens": tokens})
    write_rows(folder / "token_rows.jsonl", token_rows)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(command: str, folder: Path) -> str:
    """Run a command of this environment's selfrepair in `folder`, echo what it says, and return its standard output."""
    program, *arguments = shlex.split(command)
    environment = {name: value for name, value in os.environ.items() if name != "SELFREPAIR_DB"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    print(f"$ {command}", flush=True)
    done = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode != 0:
        raise FixtureError(f"{command}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def follow_recipe(folder: Path) -> dict[str, str]:
    """Type the commands of `RECIPE`; returns the key of each run by its name in `COMMANDS`."""
    keys: dict[str, str] = {}
    for typed in RECIPE:
        run(typed, folder)
        new = [path.name for path in (folder / PARTS).glob("*") if path.name not in keys.values()]
        if new:
            (name,) = (name for name, command in COMMANDS.items() if typed.startswith(command))
            (keys[name],) = new
    return keys


def check_as_packed(folder: Path, keys: dict[str, str]) -> None:
    """Raise FixtureError unless the units lie where `UNITS_LOADED` and `UNITS_WAITING` say, and nothing else was left."""
    waiting = {
        name: sorted(int(path.name.removeprefix("unit-")) for path in (folder / PARTS / keys[name]).glob("unit-*"))
        for name in keys
    }
    if waiting != UNITS_WAITING:
        raise FixtureError(f"part files hold the units {waiting}, not {UNITS_WAITING}")
    if (loaded := loaded_units(folder, keys)) != UNITS_LOADED:
        raise FixtureError(f"the warehouse holds the units {loaded}, not {UNITS_LOADED}")
    left = {path.name for path in folder.iterdir()} - {WAREHOUSE, PARTS}
    if left != {"sentences.jsonl", "token_rows.jsonl", "answers.jsonl"}:
        raise FixtureError(f"the folder holds {', '.join(sorted(left))} beside the warehouse and its parts")


def loaded_units(folder: Path, keys: dict[str, str]) -> dict[str, list[int]]:
    """The units of each run that the warehouse holds."""
    rows = (
        Warehouse(folder / WAREHOUSE)
        .sql("SELECT run_key, unit FROM units JOIN runs USING (run_id) ORDER BY ALL")
        .rows()
    )
    return {name: [unit for of_run, unit in rows if of_run == key] for name, key in keys.items()}


def expectations(folder: Path, keys: dict[str, str]) -> dict[str, Any]:
    """What expected.json holds. Loading and resuming happen in copies; `folder` stays as it is."""
    states = {"as_packed": state(folder / WAREHOUSE), **after_load_and_resume(folder, keys)}
    numbers = {stored["run_key"]: stored["run_id"] for stored in states["after_load"]["runs"]}
    return {
        "version": VERSION,
        "made_with": {
            name: importlib.metadata.version(name) for name in ("duckdb", "polars", "pyarrow", "torch", "transformers")
        }
        | {"python": platform.python_version()},
        "runs": {
            name: {"run_key": keys[name], "run_id": numbers[keys[name]], "command": command}
            for name, command in COMMANDS.items()
        },
        "part_files": sorted(str(path.relative_to(folder)) for path in (folder / PARTS).rglob("*") if path.is_file()),
        **states,
    }


def after_load_and_resume(folder: Path, keys: dict[str, str]) -> dict[str, Any]:
    """What 0.1.0 answers once it has loaded the part files, and once it has measured the missing units, too.

    Raises FixtureError unless the commands do exactly what is missing, whether the part files were loaded before or not.
    """
    with tempfile.TemporaryDirectory() as temporary:
        loaded_first, resumed_only = Path(temporary, "loaded_first"), Path(temporary, "resumed_only")
        shutil.copytree(folder, loaded_first)
        expect(f"{sum(map(len, UNITS_WAITING.values()))} units loaded", run(LOAD, loaded_first))
        after_load = state(loaded_first / WAREHOUSE)
        resume(loaded_first, keys)
        after_resume = state(loaded_first / WAREHOUSE)
        shutil.copytree(folder, resumed_only)
        resume(resumed_only, keys)
        if state(resumed_only / WAREHOUSE)["row_counts"] != after_resume["row_counts"]:
            raise FixtureError("resumed without a load before, the tables hold another number of rows than with one")
    return {"after_load": after_load, "after_resume": after_resume}


def resume(folder: Path, keys: dict[str, str]) -> None:
    """Type every command again; raises FixtureError unless the two missing units, and no others, are measured."""
    for name, command in COMMANDS.items():
        missing = UNITS[name] - len(UNITS_LOADED[name]) - len(UNITS_WAITING[name])
        expect(f"{missing} units measured now" if missing else "nothing was left to measure", run(command, folder))
    if (loaded := loaded_units(folder, keys)) != {name: list(range(count)) for name, count in UNITS.items()}:
        raise FixtureError(f"resumed, the warehouse holds the units {loaded}")
    expect("rules hold", run(f"selfrepair verify --db {WAREHOUSE}", folder))


def expect(text: str, output: str) -> None:
    """Raise FixtureError unless a command said `text`."""
    if text not in output:
        raise FixtureError(f"'{text}' was expected, and not:\n{output}")


def state(db: Path) -> dict[str, Any]:
    """What this version answers about a warehouse."""
    warehouse = Warehouse(db, keep_open_s=2.0)
    known = dict(warehouse.views().select("name", "kind").rows())
    counts = {name: warehouse.sql(f"SELECT count(*) FROM {name}").item() for name in sorted(known)}
    return {
        "runs": warehouse.sql(
            "SELECT run_id, run_key, status, models.name AS model, models.weights_sha256, datasets.name AS dataset, "
            "datasets.packing, datasets.seq_len, datasets.fingerprint, n_prompts, n_units, n_measurements, ablations, "
            "given_heads, selected_heads, mechanisms, logit_of, seed, dtype, conventions, crosscheck_rows, "
            "(SELECT list(unit ORDER BY unit) FROM units WHERE units.run_id = runs.run_id) AS loaded_units "
            "FROM runs JOIN models USING (model_id) JOIN datasets USING (dataset_id) ORDER BY run_id"
        ).to_dicts(),
        "migrations": warehouse.sql("SELECT version, name, sha256 FROM schema_migration ORDER BY version").to_dicts(),
        "row_counts": {name: count for name, count in counts.items() if known[name] == "table"},
        "view_row_counts": {name: count for name, count in counts.items() if known[name] != "table"},
        "checksums": {
            name: checksums(warehouse.sql(f"SELECT {columns} FROM {name}", limit=None))
            for name, columns in CHECKED_TABLES.items()
        },
        "answers": [answer(warehouse, query) for query in QUESTIONS],
    }


def answer(warehouse: Warehouse, query: str) -> dict[str, Any]:
    """A query with all its rows."""
    frame = warehouse.sql(query, limit=None)
    return {"sql": query, "columns": frame.columns, "rows": [[plain(value) for value in row] for row in frame.rows()]}


def checksums(frame: pl.DataFrame) -> dict[str, Any]:
    """Rows of a table summed up, for each of its runs; the README says how."""
    found = {}
    for (run_id,), of_run in frame.partition_by("run_id", as_dict=True).items():
        rows = of_run.drop("run_id")
        lines = sorted(json.dumps([plain(value) for value in row]) for row in rows.rows())
        found[str(run_id)] = {
            "rows": rows.height,
            "sha256": digest(lines),
            "columns": {column.name: column_sum(column.to_list()) for column in rows},
        }
    return dict(sorted(found.items()))


def column_sum(values: list[Any]) -> list[Any]:
    """How many values there are, NULL not counted, and the exact sum of numbers, or a digest of anything else."""
    there = [plain(value) for value in values if value is not None]
    if all(isinstance(value, int | float) for value in there):
        return [len(there), math.fsum(there)]
    return [len(there), digest(sorted(json.dumps(value) for value in there))]


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of lines of text, in hexadecimal."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def plain(value: Any) -> Any:
    """The value as JSON has it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, pl.Series | tuple):
        return list(value)
    return value


def laid_out(value: Any, indent: str = "") -> str:
    """JSON in which only lists and objects that hold others take more than a line: short, and still read in a diff."""
    inner = indent + " "
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not any(isinstance(entry, dict | list) for entry in entries):
        return json.dumps(value, allow_nan=False)
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(name)}: {laid_out(entry, inner)}" for name, entry in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    return "[\n" + ",\n".join(inner + laid_out(entry, inner) for entry in value) + f"\n{indent}]"


def pack(folder: Path, archive: Path) -> None:
    """Pack `folder` as an xz archive, without the names of who packed it."""

    def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(archive, "w:xz", preset=9 | 2**31) as tar:  # 2**31: lzma.PRESET_EXTREME
        tar.add(folder, arcname=folder.name, filter=anonymous)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
