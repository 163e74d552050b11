"""Revisions of a model on the hub: which exist, which resemble a wrong one, and training checkpoints by their step."""

import difflib
import re
from pathlib import Path
from typing import TypeAlias

from huggingface_hub import HfApi

from selfrepair.ingest import compat
from selfrepair.ingest.models.demo import DEMO
from selfrepair.ingest.models.hub.access import offline_reason
from selfrepair.warehouse.errors import SelfRepairError

Checkpoints: TypeAlias = tuple[int | None, ...]
"""Training steps; None is the revision that --revision names, or the main one."""


def parse_checkpoints(text: str | None) -> Checkpoints:
    """`1000,143000` -> the steps, in the order given; None alone without --checkpoint."""
    if text is None:
        return (None,)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    wrong = next((part for part in parts if not (part.isdecimal() and int(part) < 2**31)), None)
    if wrong is not None or not parts:
        raise SelfRepairError(
            f"--checkpoint {wrong or text} is not a training step. Write for example 143000, or 1000,10000,143000 for "
            "one run each."
        )
    return tuple(dict.fromkeys(int(part) for part in parts))


def revision_of(checkpoint: int) -> str:
    """The branch that holds a training checkpoint, as Pythia names them."""
    return f"step{checkpoint}"


def check_has_checkpoints(model: str, checkpoints: Checkpoints) -> None:
    """Raise SelfRepairError for several checkpoints of a model that is no hub model."""
    if len(checkpoints) > 1 and (model == DEMO or Path(model).exists()):
        raise SelfRepairError(
            f"model '{model}' has one set of weights, and --checkpoint names {len(checkpoints)}. Give a hub id with a "
            "branch step<N> for each, or ingest one folder after the other with one --checkpoint each."
        )


def check_series(model: str, checkpoints: Checkpoints) -> None:
    """Raise SelfRepairError where a series of checkpoints lacks one: before hours of measuring, not after."""
    if len(checkpoints) == 1:
        return
    there = revisions(model)
    missing = [step for step in checkpoints if step is not None and revision_of(step) not in there]
    if there and missing:
        raise SelfRepairError(
            f"model '{model}' has no checkpoint {missing[0]}. {near_revisions(revision_of(missing[0]), there)}"
        )


def revisions(model: str) -> list[str]:
    """Branches and tags of a hub model, those of the local cache where the hub is not used; none where it does not answer."""
    if offline_reason():
        refs = compat.cached_refs(model)
        return sorted(path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file())
    try:
        found = HfApi().list_repo_refs(model)
    except Exception:  # fetching the model says what is wrong
        return []
    return [ref.name for ref in (*found.branches, *found.tags)]


def near_revisions(wrong: str, there: list[str]) -> str:
    """The sentence that names revisions to use instead of one that does not exist."""
    if not there:
        return "The model's page on the hub lists those it has."
    step = _step(wrong)
    steps = sorted(found for name in there if (found := _step(name)) is not None)
    if step is not None and steps:
        below, above = [found for found in steps if found < step][-2:], [found for found in steps if found > step][:2]
        return f"Nearest: --checkpoint {' or '.join(str(found) for found in (*below, *above))}."
    if step is not None:
        return f"It has no training checkpoints (branches named step<N>); it has {listed(there)}."
    return f"It has {listed(difflib.get_close_matches(wrong, there, n=3) or there)}."


def listed(names: list[str], most: int = 5) -> str:
    """Revisions as they are typed, the first few of them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"--revision {', '.join(names[:most])}{more}"


def _step(revision: str) -> int | None:
    found = re.fullmatch(r"step(\d+)", revision)
    return int(found[1]) if found else None
