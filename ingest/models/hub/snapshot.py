"""A model's files from the hub, or from its local cache: the folder with all of them.

Everything is fetched, from one commit, before anything is loaded, so that download errors are told from loading errors.
"""

import sys
import time
import warnings
from pathlib import Path

import click
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils.tqdm import disable_progress_bars

from selfrepair.ingest.compat import HUB_NO_ROOM
from selfrepair.ingest.models.hub.access import offline_reason
from selfrepair.ingest.models.hub.refusals import causes, first_line, not_fetched, not_loaded
from selfrepair.ingest.models.weight_files import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    TRY_ANOTHER_REVISION,
    WEIGHTS,
    NotWholeError,
    indexed_files,
)

DESCRIPTIONS = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py"]
"""Files beside the weights: configuration, tokenizer, code of its own."""

ATTEMPTS = 3
PAUSE_S = 2
LONGEST_PAUSE_S = 300
"""The longest pause taken after too many requests, whatever the hub asks for."""


def fetch_model(name: str, revision: str | None, *, weights: bool = True) -> Path:
    """The folder with the files of hub model `name` at `revision` (a branch, a tag or a commit; None is the main branch),
    with its `weights` or without.

    Files in the cache are not fetched again. Raises SelfRepairError with the hub's answer or, where the hub cannot be
    reached, for an incomplete cache; and for an index of weights that is damaged.
    """
    offline_reason()  # tested once, so that an unreachable hub is not retried again and again
    if not sys.stderr.isatty() and constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()
    try:
        folder = _download(name, revision or "main", DESCRIPTIONS)
        for file_name in WEIGHTS if weights else ():
            files = [file_name, *indexed_files(folder, file_name)]
            _download(name, folder.name, files)
            if any((folder / file).exists() for file in files):
                break
        if weights and (folder / ADAPTER).exists():
            _download(name, folder.name, [*ADAPTER_WEIGHTS])
    except NotWholeError as error:
        raise not_loaded(name, revision, str(error), TRY_ANOTHER_REVISION) from error
    except Exception as error:  # the hub's client raises a dozen unrelated types
        raise not_fetched(name, revision, error) from error
    return folder


def _download(name: str, revision: str, patterns: list[str]) -> Path:
    """The client retries most failures by itself, but not those of its first request, nor an error of the hub during a
    download. A file larger than the free space, which the client only warns of, ends the download here.
    """
    for attempt in range(ATTEMPTS):
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", HUB_NO_ROOM)
                return Path(
                    snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"])
                )
        except Exception as error:
            pause_s = _pause_s(error)
            if attempt + 1 == ATTEMPTS or pause_s is None:
                raise
            click.echo(f"{name}: {first_line(error)}; trying again in {pause_s} s", err=True)
            time.sleep(pause_s)
    raise AssertionError("unreachable")


def _pause_s(error: Exception) -> int | None:
    """Seconds until the next attempt where the hub was busy or the connection broke. None for other failures."""
    answer = next((cause for cause in causes(error) if isinstance(cause, HfHubHTTPError)), None)
    if answer is None:
        return PAUSE_S if type(error).__name__ in ("ReadError", "RemoteProtocolError") else None
    if answer.response.status_code < 500 and answer.response.status_code != 429:
        return None
    retry_after = answer.response.headers.get("Retry-After", "")
    return min(int(retry_after), LONGEST_PAUSE_S) if retry_after.isdecimal() else PAUSE_S
