"""The hub's refusals of a model's files, as errors that name the next step."""

import errno
from collections.abc import Iterator

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from selfrepair.ingest import compat
from selfrepair.ingest.models.demo import DEMO
from selfrepair.ingest.models.hub.access import offline_reason
from selfrepair.ingest.models.hub.known_models import near_names
from selfrepair.ingest.models.hub.revisions import listed, near_revisions, revisions
from selfrepair.warehouse import files
from selfrepair.warehouse.errors import SelfRepairError

NO_ROOM = (*files.NO_ROOM, errno.EFBIG)


def not_fetched(name: str, revision: str | None, error: Exception) -> SelfRepairError:
    """The error of hub model `name` at `revision` that could not be fetched."""
    reason, step = _why(name, revision, error)
    return not_loaded(name, revision, reason, step)


def not_loaded(name: str, revision: str | None, reason: str, step: str) -> SelfRepairError:
    """The refusal of a model: the reason in brackets, then the next step as a sentence."""
    at = f" at revision '{revision}'" if revision else ""
    return SelfRepairError(f"model '{name}'{at} cannot be loaded ({reason}). {step}")


def first_line(error: BaseException) -> str:
    """An error's type and first line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0].rstrip(".: ")


def _why(name: str, revision: str | None, error: Exception) -> tuple[str, str]:
    """The reason and the next step."""
    chain = list(causes(error))
    if any(_is_about_room(cause) for cause in chain):
        return (
            f"there is not enough space for its files in {constants.HF_HUB_CACHE}",
            "Free some, or set HF_HOME to a folder on a larger disk; complete files are not fetched again.",
        )
    if offline := offline_reason():
        cached = revisions(name)
        return offline, (
            f"The model is not complete in the local cache{f', which has {listed(cached)} of it' if cached else ''}. "
            f"Download it where the hub can be reached, and give its folder; `--model {DEMO}` needs no network."
        )
    if any(isinstance(cause, HFValidationError) for cause in chain):
        return (
            "this is not a valid hub id",
            f"Give a hub id such as EleutherAI/pythia-160m.{_did_you_mean(name)}",
        )
    answer = next((cause for cause in chain if isinstance(cause, HfHubHTTPError)), None)
    status = None if answer is None else answer.response.status_code
    if isinstance(answer, RevisionNotFoundError):
        return "the hub has no such revision", near_revisions(revision or "main", revisions(name))
    if isinstance(answer, GatedRepoError):
        return "it is gated", _ask_for_access(name)
    if isinstance(answer, RepositoryNotFoundError):
        hidden = "" if get_token() else "; for a private one set HF_TOKEN"
        return "the hub has no such model", (
            f"Give a hub id such as EleutherAI/pythia-160m, a local folder, or {DEMO}{hidden}.{_did_you_mean(name)}"
        )
    if status == 401 and get_token():
        return "the hub rejects the token", (
            f"Make a new one at {constants.ENDPOINT}/settings/tokens and set HF_TOKEN to it, or unset HF_TOKEN."
        )
    if status in (401, 403):
        return "reading it needs a token with access", (
            f"Set HF_TOKEN to a token that may read {name}: {constants.ENDPOINT}/settings/tokens."
        )
    if status == 429:
        return "too many requests to the hub", "Wait some minutes and run the same command again."
    if any(isinstance(cause, TimeoutError) for cause in chain):
        return "the hub stopped answering", (
            "Run the same command again: complete files are not fetched again. HF_HUB_ETAG_TIMEOUT and "
            "HF_HUB_DOWNLOAD_TIMEOUT, in seconds, make it wait longer for an answer."
        )
    return f"the hub did not deliver its files: {first_line(answer or chain[0])}", (
        "Run the same command again: complete files are not fetched again."
    )


def _ask_for_access(name: str) -> str:
    page = f"{constants.ENDPOINT}/{name}"
    if get_token():
        return f"The token belongs to an account without access: accept the terms at {page} with that account."
    return f"Accept its terms at {page}, then set HF_TOKEN to a token of that account."


def _is_about_room(cause: BaseException) -> bool:
    full = isinstance(cause, OSError) and cause.errno in NO_ROOM
    return full or compat.is_hub_no_room(cause)


def _did_you_mean(name: str) -> str:
    near = near_names(name)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes, the first cause last."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        yield cause
        cause = cause.__cause__ or cause.__context__
