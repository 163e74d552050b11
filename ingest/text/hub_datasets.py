"""Stream a dataset of the Hugging Face hub; errors name a wrong name, split or revision and the next step."""

import re
from collections.abc import Iterator
from typing import Any

from huggingface_hub.errors import RevisionNotFoundError

from selfrepair.ingest import compat
from selfrepair.ingest.models.hub.access import offline_reason
from selfrepair.ingest.models.hub.refusals import causes
from selfrepair.warehouse.errors import SelfRepairError

PARQUET_REVISION = "refs/convert/parquet"
"""Where the hub keeps datasets that it has converted to Parquet."""


def hub_rows(name: str, split: str, revision: str | None) -> Iterator[dict[str, Any]]:
    """The rows of a dataset as they come; `name` is OWNER/NAME or, where that is several in one, OWNER/NAME:CONFIG.

    Raises SelfRepairError where there is none, at the first row or any later one.
    """
    import datasets

    offline = offline_reason()
    if offline is not None:
        compat.use_datasets_offline()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what matters is raised as well
    repository, _, config = name.partition(":")
    try:
        splits = datasets.load_dataset(repository, config or None, revision=revision, streaming=True)
        if split not in splits:
            raise SelfRepairError(
                f"dataset '{name}' has no split '{split}'; it has {', '.join(splits)}. Use --split {next(iter(splits))}."
            )
        yield from splits[split]
    except SelfRepairError:
        raise
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise _not_read(name, split, error, offline) from error


def _not_read(name: str, split: str, error: Exception, offline: str | None) -> SelfRepairError:
    message = str(error).strip() or type(error).__name__
    reason = re.sub(r"\s*\n\s*", " ", message.split("\nExample")[0])
    step = _step(error)
    if offline is not None:
        reason, step = f"{offline}, and it is not in the local cache", None
    step = step or "Give a hub dataset, a .txt, .jsonl or .parquet file, or `stdlib`, which needs no network."
    return SelfRepairError(f"dataset '{name}' (split '{split}') cannot be read: {reason.rstrip('.')}. {step}")


def _step(error: Exception) -> str | None:
    """The next step where an error, or one that it comes from, is of a kind that has one."""
    from datasets.exceptions import DatasetNotFoundError

    kinds = {type(cause) for cause in causes(error)}
    if compat.is_gated_dataset(error):
        return "Accept its terms on its page of the hub, and set HF_TOKEN."
    if RevisionNotFoundError in kinds:
        return "Check --dataset-revision, or leave it out for the newest."
    if DatasetNotFoundError in kinds:
        return "Check its name, OWNER/NAME; a private one needs HF_TOKEN."
    if compat.is_dataset_program(error):
        return (
            f"It is a loading script, which is not run here. Try --dataset-revision {PARQUET_REVISION}, where the hub keeps "
            "most of these as Parquet."
        )
    if compat.lacks_dataset_config(error):
        return "It has several configurations: choose one with --dataset NAME:CONFIG."
    if StopIteration in kinds or compat.is_dataset_without_rows(error):
        return "It has no rows; choose another --split."
    return None
