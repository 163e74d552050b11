"""The `selfrepair ingest` command that resumes a run, from the run's record."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfrepair.warehouse.parts.records import RunRecord

_LABEL = re.compile(r"L(\d+)H(\d+)")
_DEVICES = ("cpu", "mps")
_STDLIB = "stdlib"
_DOCUMENT = "document"  # a packing whose prompts may all be shorter than --seq-len
_PROTOCOLS = ("rushing2024",)

RUN_RECORDS = """SELECT
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
"""The records of all runs of the warehouse, the newest first: rows for `resume_command`."""


def run_row(record: RunRecord) -> dict[str, Any]:
    """A record from part files as a row of `RUN_RECORDS`."""
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


def resume_command(run: Mapping[str, Any], db: Path) -> str:
    """The `selfrepair ingest` that measures this run, and resumes it.

    A record holds only the last part of the path of a local model or dataset: the user has to complete it, and to add
    what `missing_options` names.
    """
    options = {
        "--model": run["model"],
        "--revision": None if run["checkpoint"] is not None else run["revision"],  # else it is step<checkpoint>
        "--checkpoint": run["checkpoint"],
        "--dataset": run["dataset"],
        "--split": run["split"],
        "--dataset-revision": run["dataset_revision"] if run["dataset"] != _STDLIB else None,  # else Python's version
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
    words = [word for option, value in options.items() if value is not None for word in (option, str(value))]
    return shlex.join(["selfrepair", "ingest", *words, *_switches(run["mechanisms"] or ())])


def missing_options(run: Mapping[str, Any]) -> str:
    """A sentence, after a space, on options that a record does not hold; empty where there are none."""
    if run["packing"] != _DOCUMENT:
        return ""
    return " Add --seq-len if the first command had it: with one document per prompt, the record does not tell."


def _heads(labels: Sequence[str], n_layers: int, n_heads: int) -> dict[str, str | None]:
    """Whole layers by number and other heads by label; no options where all heads are selected."""
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
    """Mechanisms that are on by default are switched on or off explicitly, others only on."""
    by_default = [f"--{'' if name in mechanisms else 'no-'}{_option(name)}" for name in ("edges", "logit_lens")]
    return by_default + [f"--{_option(name)}" for name in ("logprobs", "self_repression") if name in mechanisms]


def _option(mechanism: str) -> str:
    return mechanism.replace("_", "-")
