"""What version 0.1.0 recorded about its own warehouse (`upgrade/version_0_1_0.tar.xz`), under the names of this version."""

import hashlib
import json
import math
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import duckdb

from support.templates import made_once

ARCHIVE = Path(__file__).parents[1] / "upgrade" / "version_0_1_0.tar.xz"

RENAMED = {
    "layer_guess": "logit_lens",
    "head_feedback": "self_repression",
    "feedback_sums": "self_repression_sums",
    "published_feedback": "published_self_repression",
    "feedback": "added_vector",
    "strength": "multiple",
    "fed_effect": "direct_effect_after",
    "fed_effect_own_scale": "direct_effect_after_own_scale",
    "guess_by_layer": "logit_lens_by_layer",
    "guess_splits": "logit_lens_splits",
    "layer_guess_numbers": "logit_lens_numbers",
    "repair_by_guess": "repair_by_logit_lens",
    "head_feedback_slope": "self_repression_slope",
    "feedback_fits": "self_repression_fits",
    "feedback_reproduction": "self_repression_reproduction",
    "mean_guess_logit": "mean_target_logit",
    "mean_guess_logprob": "mean_target_logprob",
    "mean_fed_effect": "mean_direct_effect_after",
    "right_share": "top1_share",
    "settled_share": "top1_from_here_share",
}
"""Tables, views and columns of 0.1 that have another name today."""

_MECHANISMS = {"guesses": "logit_lens", "feedback": "self_repression"}


def unpacked(folder: Path) -> Path:
    """The archive's folder, copied into `folder`: to load into, to resume, to damage."""

    def unpack(template: Path) -> None:
        with tarfile.open(ARCHIVE) as tar:
            tar.extractall(template, filter="data")

    return Path(shutil.copytree(made_once("version_0_1_0", unpack) / "version_0_1_0", folder / "version_0_1_0"))


def recorded(folder: Path) -> dict[str, Any]:
    """What `expected.json` of the archive holds; the archive's README says what that is."""
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return found


def today(text: str) -> str:
    """SQL, or a name, of 0.1 with the names of today."""
    return re.sub(r"\w+", lambda word: RENAMED.get(word[0], word[0]), text)


def todays_run(run: dict[str, Any]) -> dict[str, Any]:
    """A row of the recorded `runs` with today's names of mechanisms and of its status."""
    mechanisms = run["mechanisms"] and [_MECHANISMS.get(name, name) for name in run["mechanisms"]]
    return {**run, "mechanisms": mechanisms, "status": todays_value(run["status"])}


def todays_value(value: object) -> object:
    """A value of a recorded answer as it is called today."""
    return "incomplete" if value == "running" else value


def checksums(con: duckdb.DuckDBPyConnection, table: str, run_id: int, columns: list[str]) -> dict[str, Any]:
    """A run's rows of a table summed up as the recorded ones are: rows, a digest of all, each column's values."""
    rows = con.execute(f"SELECT {', '.join(columns)} FROM {table} WHERE run_id = ?", [run_id]).fetchall()
    lines = sorted(json.dumps(row) for row in rows)
    by_column = zip(columns, zip(*rows, strict=True), strict=True)
    return {"rows": len(rows), "sha256": _digest(lines), "columns": {name: _summed(of) for name, of in by_column}}


def _summed(values: tuple[Any, ...]) -> list[Any]:
    there = [value for value in values if value is not None]
    if all(isinstance(value, int | float) for value in there):
        return [len(there), math.fsum(there)]
    return [len(there), _digest(sorted(json.dumps(value) for value in there))]


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
