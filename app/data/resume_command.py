"""What resumes a run, from the run's record: its `selfrepair ingest`, or its call of `measure`."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from selfrepair.warehouse.parts.command import command_to_resume, warning_of_code
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
    models.config_sha256,
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
        "run_key": record.run_key,
        "model": record.model.name,
        "revision": record.model.revision,
        "checkpoint": record.model.checkpoint,
        "config_sha256": record.model.config_sha256,
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
        "command": record.command,
    }


def resume_command(run: Mapping[str, Any], db: Path) -> str | None:
    """The command that measures this run, and resumes it; of a run that was measured from Python, the call. None where what is
    recorded cannot be told safely: the record may be anybody's.

    Of a run of version 0.1, which recorded none, it is put together from what the record holds: only the last part of the
    path of a local model or dataset, and not what `missing_options` names.
    """
    if run["command"] is not None:
        return command_to_resume(run["command"], db)
    if run["config_sha256"] is not None:
        return _call(run, db)
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
        **_heads(run),
        "--dtype": run["dtype"],
        "--device": run["device"] if run["device"] in _DEVICES else "cuda",
        "--seed": run["seed"],
        "--given": ",".join(run["given_heads"]) or None,
        "--neurons": _neurons(run["mechanisms"] or ()),
    }
    words = [word for option, value in options.items() if value is not None for word in (option, str(value))]
    return command_to_resume(shlex.join(["selfrepair", "ingest", *words, *_switches(run["mechanisms"] or ())]), db)


def missing_options(run: Mapping[str, Any]) -> str:
    """What has to be known or added to use the `resume_command`, in sentences; empty where it is exact as it is."""
    command = resume_command(run, Path())
    if command is None:
        return "Its record does not tell a command that can be shown. Repeat the command or call that began it."
    if run["command"] is not None:
        words = shlex.split(command)
        values = [value for option, value in pairwise(words) if option in ("--model", "--dataset", "--parts")]
        is_relative = any(value.startswith(".") for value in values)
        where = "Run it in the folder where it was first typed: it names local files. " if is_relative else ""
        return f"{where}{warning_of_code(command)}".strip()
    if run["config_sha256"] is not None:
        return "This run was measured from Python: repeat the call, with the same model, prompts and tokenizer."
    return (
        "Version 0.1 did not record the command: replace the name of a local model or dataset by its full path, and add "
        "--text-column or --trust-remote-code if the first command had them."
        + (
            " Also --seq-len: with one document per prompt, the record does not tell."
            if run["packing"] == _DOCUMENT
            else ""
        )
    )


def _call(run: Mapping[str, Any], db: Path) -> str:
    options = {
        "ablations": ",".join(run["ablations"]),
        **{name.removeprefix("--"): value for name, value in _heads(run).items() if value},
        "given": ",".join(run["given_heads"]),
        "mechanisms": ",".join(run["mechanisms"] or ()),
        "seed": run["seed"],
        "model_name": run["model"],
        "dataset_name": run["dataset"],
        "into": str(db),
    }
    told = ", ".join(f"{name}={json.dumps(value)}" for name, value in options.items() if value != "")
    return f"measure(model, prompts, {told})"


def _heads(run: Mapping[str, Any]) -> dict[str, str | None]:
    """Whole layers by number and other heads by label; no options where all heads are selected."""
    labels, n_layers, n_heads = run["selected_heads"], run["n_layers"], run["n_heads"]
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
    by_default = [
        f"--{'' if name in mechanisms else 'no-'}{_option(name)}" for name in ("edges", "experts", "logit_lens")
    ]
    return by_default + [f"--{_option(name)}" for name in ("logprobs", "self_repression") if name in mechanisms]


def _option(mechanism: str) -> str:
    return mechanism.replace("_", "-")
