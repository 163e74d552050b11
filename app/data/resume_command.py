"""How a run goes on that is not whole yet: the command that began it, from what is written down about the run."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfrepair.warehouse.parts.records import RunRecord

_LABEL = re.compile(r"L(\d+)H(\d+)")
_DEVICES = ("cpu", "mps")
_STDLIB = "stdlib"
_DOCUMENT = "document"  # a packing, whose prompts may all be shorter than what was asked for
_PROTOCOLS = ("rushing2024",)

RECORDS = """SELECT
    runs.* EXCLUDE (software),
    models.name AS model,
    models.revision,
    models.checkpoint,
    models.n_layers,
    models.n_heads,
    datasets.name AS dataset,
    datasets.split,
    datasets.revision AS dataset_revision,
    datasets.packing,
    datasets.seq_len
FROM runs
INNER JOIN models USING (model_id)
INNER JOIN datasets USING (dataset_id)
ORDER BY run_id DESC"""
"""What is written down about every run in the warehouse, the newest first: rows that `command` reads."""


def written_down(record: RunRecord) -> dict[str, Any]:
    """The record with the columns' names that `command` reads, as a query of the warehouse gives them."""
    return {
        "model": record.model.name,
        "revision": record.model.revision,
        "checkpoint": record.model.checkpoint,
        "n_layers": record.model.n_layers,
        "n_heads": record.model.n_heads,
        "dataset": record.dataset.name,
        "split": record.dataset.split,
        "dataset_revision": record.dataset.revision,
        "packing": record.dataset.packing,
        "seq_len": record.dataset.seq_len,
        "n_prompts": record.n_prompts,
        "n_units": record.n_units,
        "n_measurements": record.n_measurements,
        "ablations": list(record.ablations),
        "selected_heads": list(record.selected_heads),
        "given_heads": list(record.given_heads),
        "mechanisms": list(record.mechanisms),
        "seed": record.seed,
        "dtype": record.dtype,
        "device": record.device,
        "started_at": record.started_at,
    }


def command(run: Mapping[str, Any], db: Path) -> str:
    """The `selfrepair ingest` that measures this run, typed again, goes on with it.

    Models and datasets from local folders and files are written down by their last name alone: the path before it is the
    user's to add, and so is what `not_written_down` says.
    """
    given = {
        "--model": run["model"],
        "--revision": None if run["checkpoint"] is not None else run["revision"],  # which then is step<checkpoint>
        "--checkpoint": run["checkpoint"],
        "--dataset": run["dataset"],
        "--split": run["split"],
        "--dataset-revision": run["dataset_revision"] if run["dataset"] != _STDLIB else None,  # its is Python's own
        "--packing": run["packing"] if run["packing"] == _DOCUMENT else None,
        "--protocol": run["packing"] if run["packing"] in _PROTOCOLS else None,
        "--prompts": run["n_prompts"],
        "--seq-len": run["seq_len"] if run["packing"] != _DOCUMENT else None,
        "--ablation": ",".join(run["ablations"]),
        **_heads(run["selected_heads"], run["n_layers"], run["n_heads"]),
        "--dtype": run["dtype"],
        "--device": run["device"] if run["device"] in _DEVICES else "cuda",
        "--seed": run["seed"],
        "--given": ",".join(run["given_heads"]) or None,
        "--neurons": _neurons(run["mechanisms"] or ()),
        "--db": db,
    }
    words = [word for option, value in given.items() if value is not None for word in (option, str(value))]
    return shlex.join(["selfrepair", "ingest", *words, *_switches(run["mechanisms"] or ())])


def not_written_down(run: Mapping[str, Any]) -> str:
    """A sentence on what a user has to add to `command`, to follow others; empty where there is nothing."""
    if run["packing"] != _DOCUMENT:
        return ""
    return " Add --seq-len as it was typed, if it was: prompts of one document each may all be shorter."


def _heads(labels: Sequence[str], n_layers: int, n_heads: int) -> dict[str, str | None]:
    """Whole layers by number, other heads by name; nothing where every head is meant."""
    in_layer: dict[int, list[str]] = {}
    for label in labels:
        match = _LABEL.fullmatch(label)
        if match is not None:
            in_layer.setdefault(int(match[1]), []).append(label)
    whole = [layer for layer, heads in sorted(in_layer.items()) if len(heads) == n_heads]
    if len(whole) == n_layers:
        return {}
    single = [label for layer, heads in sorted(in_layer.items()) if layer not in whole for label in heads]
    return {"--layers": ",".join(map(str, whole)) or None, "--heads": ",".join(single) or None}


def _neurons(mechanisms: Sequence[str]) -> str:
    return next((name.removeprefix("neurons_") for name in mechanisms if name.startswith("neurons_")), "none")


def _switches(mechanisms: Sequence[str]) -> list[str]:
    """What is on unless switched off is said either way, what is off is said where it is on."""
    either = [f"--{'' if name in mechanisms else 'no-'}{_option(name)}" for name in ("edges", "logit_lens")]
    return either + [f"--{_option(name)}" for name in ("logprobs", "self_repression") if name in mechanisms]


def _option(mechanism: str) -> str:
    return mechanism.replace("_", "-")
