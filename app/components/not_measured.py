"""What a run did not measure, with the command that measures it."""

import re
import shlex
from collections.abc import Iterable
from typing import Any

import streamlit as st

from selfrepair.app.data.choice import POPULATIONS, Choice
from selfrepair.app.data.query import file_to_measure_into, query_frame
from selfrepair.app.data.resume_command import RUN_RECORDS, missing_options, resume_command
from selfrepair.app.wording.escape import escape_markdown

DEFAULTS = ("edges", "neurons_last", "experts", "logit_lens")
"""What an ingest measures by default: the command measures it, too."""

EARLY_STEP = 1_000
"""A checkpoint that models with many of them have."""

NOUNS = {
    "edges": "which heads and MLPs repair which head",
    "neurons_last": "the neurons of MLPs",
    "logit_lens": "the logit lens",
    "logprobs": "changes in log-probability and KL divergence",
    "self_repression": "self-repression",
}
"""The mechanisms in words, by their names in `runs.mechanisms`."""


def has_measured(choice: Choice, mechanism: str) -> bool:
    """True where the run has the mechanism, one of `NOUNS`; else the page shows the command that measures it."""
    run = _record(choice)
    own = run["mechanisms"] or []
    kind = mechanism.split("_")[0]
    if any(name.split("_")[0] == kind for name in own):
        return True
    st.info(
        f"This run did not measure {NOUNS[mechanism]}. This command measures it, as a new run:",
        icon=":material/science:",
    )
    _show_command(run | {"mechanisms": _combined(own, mechanism)})
    return False


def has_experts(choice: Choice) -> bool:
    """True where the run measured which experts are chosen: a model without any has no such thing to measure."""
    return "experts" in (_record(choice)["mechanisms"] or [])


def explain_earlier_neurons(choice: Choice) -> None:
    """Say that the run has no neurons of the rows after position 0, and show the commands that measure it anew."""
    run = _record(choice)
    st.info(
        "Neurons of the rows after position 0 are not in this run, which an earlier version measured. "
        f"{POPULATIONS['top2'].capitalize()} is shown instead. These commands measure the run again, with both:",
        icon=":material/science:",
    )
    remove = shlex.join(["selfrepair", "remove", str(run["run_id"]), "--db", str(file_to_measure_into())])
    commands = [remove, resume_command(run, file_to_measure_into())]
    st.code("\n".join(command for command in commands if command is not None), language="bash", wrap_lines=True)
    if missing := missing_options(run):
        st.caption(missing)


def explain_missing_baseline(choice: Choice) -> None:
    """Show the command that measures the run without given heads, the baseline of one with them."""
    st.info(
        "The given heads of this run are ablated in both its clean and its ablated runs. Hidden backup heads show against the "
        "same run without given heads, which is not in this warehouse. This command measures it:",
        icon=":material/science:",
    )
    _show_command(_record(choice) | {"given_heads": []})


def explain_missing_checkpoints(choice: Choice) -> None:
    """Show the command that measures another checkpoint of the run's model."""
    run = _record(choice)
    if not _is_checkpoint(run):
        revision = escape_markdown(run["revision"])
        st.info(
            f"This run is of revision {revision}, which is neither the final weights nor a training step.",
            icon=":material/science:",
        )
        return
    if "/" not in run["model"]:
        st.info(
            "This warehouse has a single checkpoint of this model. A series from the hub, such as Pythia's, is shown over "
            "training: `selfrepair ingest --model EleutherAI/pythia-160m --checkpoint 1000,10000,143000`.",
            icon=":material/science:",
        )
        return
    is_early = run["checkpoint"] == EARLY_STEP or run["revision"] == f"step{EARLY_STEP}"
    st.info(
        "This warehouse has a single checkpoint of this model with these settings. If the hub has others, as for Pythia, this "
        f"command measures {'the final weights' if is_early else f'step {EARLY_STEP:,}'}:",
        icon=":material/science:",
    )
    _show_command(run | {"checkpoint": None if is_early else EARLY_STEP, "revision": None})


def _is_checkpoint(run: dict[str, Any]) -> bool:
    """True for the final weights and for a training step, as in `repair_over_training`."""
    return run["checkpoint"] is not None or re.fullmatch(r"main|step[0-9]+", run["revision"] or "main") is not None


def _record(choice: Choice) -> dict[str, Any]:
    (run,) = query_frame(f"SELECT *\nFROM (\n{RUN_RECORDS}\n)\nWHERE run_id = {choice.run['run_id']}").to_dicts()
    return dict(run)


def _show_command(run: dict[str, Any]) -> None:
    changed = run | {"command": None, "config_sha256": None}  # what was typed then measures that run, not this one
    command = resume_command(changed, file_to_measure_into())
    if command is None:
        st.caption("The record of this run does not tell one that can be shown.")
        return
    st.code(command, language="bash", wrap_lines=True)
    st.caption(
        "For a local model or dataset, replace its name by the full path; add --text-column if the text is not in `text`. "
        f"Rows already stored are kept. {missing_options(changed)}"
    )


def _combined(own: Iterable[str], mechanism: str) -> list[str]:
    """The run's mechanisms, the missing one, and the defaults; neurons of one kind only."""
    kinds = {name.split("_")[0]: name for name in (*DEFAULTS, mechanism, *own)}
    return list(kinds.values())
