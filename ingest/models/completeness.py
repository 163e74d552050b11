"""Whether a folder holds the whole of a model, and nothing that would be left out of what is measured."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from selfrepair.ingest.models.weight_files import WEIGHTS, NotWholeError, indexed_files
from selfrepair.warehouse.files import is_lfs_pointer

ADAPTER = "adapter_config.json"
"""The file by which peft, and transformers where peft is installed, know an adapter."""

_COMPUTED = re.compile(r"(^|\.)(attn|attention|crossattention)\.(masked_)?bias$|(^|\.)(inv_freq|position_ids)$")
"""Causal masks, rotary frequencies and counts of positions, which earlier releases of transformers saved with the weights."""


def check_no_adapter(folder: Path, name: str) -> None:
    """Raise NotWholeError for an adapter, alone or beside the weights of its base: they would be measured without it."""
    file = folder / ADAPTER
    if not file.is_file():
        return
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        base = None
    alone = not any((folder / weights).exists() for name in WEIGHTS for weights in (name, f"{name}.index.json"))
    of_base = f" of {base}" if base else ""
    remove = "" if alone else f" To measure the base without it, move {ADAPTER} out of the folder."
    raise NotWholeError(
        f"it holds an adapter{of_base} ({ADAPTER}), such as LoRA's, which is not part of the weights",
        "Merge it: PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("
        f'"{base or "BASE"}"), "{name}").merge_and_unload().save_pretrained("merged"), save the tokenizer there, and give '
        f"that folder.{remove}",
    )


def check_files(folder: Path, config: PreTrainedConfig) -> None:
    """Raise NotWholeError for weights that are quantized, and for files that are missing or were not fetched."""
    method = _quantization(config)
    if method is not None:
        raise NotWholeError(
            f"its weights are quantized ({method}), and whole ones are measured",
            "Give the model that it was made from. Where there is none, load it with the package that quantized it, then "
            'model.dequantize().save_pretrained("plain"), and give that folder with its tokenizer.',
        )
    weights = _weight_files(folder, getattr(config, "transformers_weights", None))
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


def _weight_files(folder: Path, named: str | None) -> list[str]:
    """The files that transformers reads weights from, there or not; none where there is not even an index.

    `named` is what the configuration names in place of the usual ones: a file or an index.
    """
    if named is not None:
        return indexed_files(folder, named.removesuffix(".index.json")) if named.endswith(".index.json") else [named]
    for weights in WEIGHTS:
        listed = [weights] if (folder / weights).is_file() else indexed_files(folder, weights)
        if listed:
            return listed
    return []


def _quantization(config: PreTrainedConfig) -> str | None:
    """The method of a configuration's quantization; None without one."""
    found: Any = getattr(config, "quantization_config", None)
    if not found:
        return None
    settings: Mapping[str, Any] = found if isinstance(found, Mapping) else vars(found)
    method = settings.get("quant_method") or (
        "bitsandbytes" if any("load_in" in name for name in settings) else "unknown"
    )
    return str(getattr(method, "value", method))


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
