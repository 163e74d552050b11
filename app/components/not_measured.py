"""What a run did not measure: said once, with the command that measures it."""

import re
from collections.abc import Iterable
from typing import Any

import streamlit as st

from selfrepair.app.data.answers import ask, warehouse_path
from selfrepair.app.data.choice import Choice
from selfrepair.app.data.resume_command import RECORDS, command, not_written_down
from selfrepair.app.wording.escape import plain

USUAL = ("edges", "neurons_last", "logit_lens")
"""What an ingest measures unless told not to: the command has it as well."""

EARLY_STEP = 1_000
"""A checkpoint that models with many of them have."""

NOUNS = {
    "edges": "which later heads and MLPs repair which head",
    "neurons_last": "the neurons of MLPs",
    "logit_lens": "what would be predicted after each layer",
    "logprobs": "changes in log-probability and divergence",
    "self_repression": "whether heads repress or reinforce themselves",
}
"""What each mechanism is, by the name that adds it to `runs.mechanisms`."""


def has_measured(choice: Choice, wanted: str) -> bool:
    """True where the run has the mechanism, one of `NOUNS`; else the page says what measures it."""
    run = _record(choice)
    own = run["mechanisms"] or []
    kind = wanted.split("_")[0]
    if any(name.split("_")[0] == kind for name in own):
        return True
    st.info(
        f"This run did not measure {NOUNS[wanted]}. This command measures it anew with that, as a run of its own:",
        icon=":material/science:",
    )
    _type(run | {"mechanisms": _together(own, wanted)})
    return False


def say_without_given(choice: Choice) -> None:
    """Say what measures the run that one with given heads is compared with."""
    st.info(
        "Heads were ablated already in all of this run. How the others come in for them is told against the same run "
        "without, which is not here. This command measures it:",
        icon=":material/science:",
    )
    _type(_record(choice) | {"given_heads": []})


def say_without_checkpoints(choice: Choice) -> None:
    """Say what measures another checkpoint of the run's model, which it is lined up with."""
    run = _record(choice)
    if not _has_place(run):
        st.info(
            f"This run is of revision {plain(run['revision'])}, which is neither the final weights nor a training step.",
            icon=":material/science:",
        )
        return
    if "/" not in run["model"]:
        st.info(
            "There is a single checkpoint of this model here. Those of a series from the hub, such as Pythia's, are lined up "
            "here: `selfrepair ingest --model EleutherAI/pythia-160m --checkpoint 1000,10000,143000`.",
            icon=":material/science:",
        )
        return
    is_early = run["checkpoint"] == EARLY_STEP or run["revision"] == f"step{EARLY_STEP}"
    st.info(
        "There is a single checkpoint of this model here that was measured like this. Where the hub has others of it, as of "
        f"Pythia, this command measures {'the final weights' if is_early else f'step {EARLY_STEP:,}'}:",
        icon=":material/science:",
    )
    _type(run | {"checkpoint": None if is_early else EARLY_STEP, "revision": None})


def _has_place(run: dict[str, Any]) -> bool:
    """True for the final weights and for a training step, as `repair_over_training` has them."""
    return run["checkpoint"] is not None or re.fullmatch(r"main|step[0-9]+", run["revision"] or "main") is not None


def _record(choice: Choice) -> dict[str, Any]:
    (run,) = ask(f"SELECT *\nFROM (\n{RECORDS}\n)\nWHERE run_id = {choice.run['run_id']}").to_dicts()
    return dict(run)


def _type(run: dict[str, Any]) -> None:
    st.code(command(run, warehouse_path()), language="bash", wrap_lines=True)
    st.caption(
        "Before a local model or dataset goes its path; a column of text that is not `text` goes after --text-column. "
        f"Rows that are already here stay as they are.{not_written_down(run)}"
    )


def _together(own: Iterable[str], wanted: str) -> list[str]:
    """The run's mechanisms, the wanted one, and the usual ones; neurons of one kind only."""
    kinds = {name.split("_")[0]: name for name in (*USUAL, wanted, *own)}
    return list(kinds.values())
