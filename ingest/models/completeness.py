"""Whether a folder holds the whole of a model, and nothing that would be left out of what is measured."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from shlex import quote

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from selfrepair.ingest.models.weight_files import (
    ADAPTER,
    WEIGHTS,
    NotWholeError,
    indexed_files,
    is_adapter,
    is_file_name,
)
from selfrepair.warehouse.files import is_lfs_pointer

_COMPUTED = re.compile(r"(^|\.)(attn|attention|crossattention)\.(masked_)?bias$|(^|\.)(inv_freq|position_ids)$")
"""Causal masks, rotary frequencies and counts of positions, which earlier releases of transformers saved with the weights."""


def check_no_adapter(folder: Path) -> None:
    """Raise NotWholeError for an adapter beside weights: whether they are its base's, or merged already, nobody can tell."""
    if (folder / ADAPTER).is_file() and not is_adapter(folder):
        raise NotWholeError(
            f"it holds weights and an adapter ({ADAPTER}), such as LoRA's, which is not part of them",
            f"To measure the weights alone, move {ADAPTER} out of the folder. To measure the adapter merged into them, move "
            "its files (adapter_*) into a folder of their own.",
        )


def check_files(folder: Path, config: PreTrainedConfig) -> None:
    """Raise NotWholeError for files of weights that are missing or were not fetched."""
    weights = weight_files(folder, getattr(config, "transformers_weights", None))
    missing = [file for file in weights if not (folder / file).is_file()]
    if missing:
        raise NotWholeError(f"{len(missing)} of its weight files {_are(missing)} not there: {_some(missing)}")
    check_fetched(folder, weights)


def check_fetched(folder: Path, names: Iterable[str]) -> None:
    """Raise NotWholeError where Git keeps a few lines in place of a file, as a clone without Git LFS leaves them."""
    pointers = [name for name in names if is_lfs_pointer(folder / name)]
    if pointers:
        raise NotWholeError(
            f"{len(pointers)} of its files {_are(pointers)} not fetched: {_some(pointers)} {_are(pointers)} a Git LFS pointer",
            f"Fetch what it points to: git -C {quote(str(folder))} lfs pull",
        )


def check_names(model: nn.Module, missing: Collection[str], unexpected: Collection[str]) -> None:
    """Raise NotWholeError where parameters are in no file, which transformers fills with random numbers, or files hold
    weights that are in no module, which it leaves out. What the model computes by itself may be in the files or not.
    """
    absent = sorted(missing)
    if absent:
        raise NotWholeError(f"{len(absent)} of its parameters {_are(absent)} in none of its files: {_some(absent)}")
    buffers = {name for name, _ in model.named_buffers()}
    more = sorted(name for name in unexpected if name not in buffers and not _COMPUTED.search(name))
    if more:
        raise NotWholeError(
            f"{len(more)} of the weights in its files {_are(more)} in no part of the model that config.json describes, and "
            f"would be left out: {_some(more)}",
            "If config.json is another model's, put its own there; if they are an adapter or a further head, merge them, or "
            "save the language model without them: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW).",
        )


def check_shapes(mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Raise NotWholeError for weights of another shape than config.json describes: by name, as in the files, as described."""
    found = [f"{name} is {_by(there)}, not {_by(described)}" for name, there, described in sorted(mismatched)]
    if found:
        raise NotWholeError(
            f"{len(found)} of the weights in its files {_are(found)} of another shape than config.json describes: "
            f"{_some(found)}",
            "Put the config.json there that was saved with these weights.",
        )


def check_numbers(model: PreTrainedModel) -> tuple[str, ...]:
    """What to tell of matrices that hold zeros alone: what computes with them adds nothing.

    Raises NotWholeError for weights that are NaN or infinite, and where the embedding or the unembedding is zero: then
    there is nothing to measure.
    """
    bad, zero = [], []
    for name, parameter in model.named_parameters():
        if parameter.numel():
            low, high = torch.aminmax(parameter.detach())
            if not bool(torch.isfinite(low) & torch.isfinite(high)):
                bad.append(name)
            elif parameter.ndim > 1 and not low and not high:
                zero.append(name)
    if bad:
        raise NotWholeError(
            f"{len(bad)} of its weights {'holds' if len(bad) == 1 else 'hold'} NaN or infinite numbers: {_some(bad)}",
            "Get the files again; if they are the same, whoever made them has to save a sound checkpoint.",
        )
    ends = [
        module.weight for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module is not None
    ]
    needed = [name for name in zero if any(model.get_parameter(name) is weight for weight in ends)]
    if needed:
        raise NotWholeError(
            f"{_some(needed)} {_are(needed)} zero everywhere, so that no token tells anything",
            "Get the files again; if they are the same, whoever made them has to save a sound checkpoint.",
        )
    if not zero:
        return ()
    return (
        f"{len(zero)} weight {'matrix is' if len(zero) == 1 else 'matrices are'} zero everywhere: {_some(zero)}. Unless "
        "that is meant, the files are damaged.",
    )


def weight_files(folder: Path, named: str | None) -> list[str]:
    """The files that transformers reads weights from, there or not; none where there is not even an index.

    `named` is what the configuration names in place of the usual ones: a file or an index.
    """
    if named is not None:
        if not is_file_name(named):
            raise NotWholeError(f"config.json names the weights {named!r:.80}, which is no file of its folder")
        return indexed_files(folder, named.removesuffix(".index.json")) if named.endswith(".index.json") else [named]
    for weights in WEIGHTS:
        listed = [weights] if (folder / weights).is_file() else indexed_files(folder, weights)
        if listed:
            return listed
    return []


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
