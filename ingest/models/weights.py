"""The weights of a model in a folder: loaded unchanged, named by a digest, cast in place.

Memory never holds more than one copy of them, and one parameter.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.activations import NewGELUActivation

from selfrepair.ingest import compat
from selfrepair.ingest.models.hub.snapshot import WEIGHTS, indexed_files


class NotWholeError(Exception):
    """A folder lacks a part of a model, or holds an unreadable one; the message says which."""


def read_weights(folder: Path, config: PreTrainedConfig, *, trust_remote_code: bool) -> PreTrainedModel:
    """The model of a folder on the CPU, in the type of its files.

    Raises NotWholeError where files or parameters are missing, which transformers would fill with random numbers, and what
    transformers raises for whatever else is wrong.
    """
    missing = missing_files(folder)
    if missing:
        raise NotWholeError(f"{len(missing)} of its weight files {_are(missing)} not there: {_some(missing)}")
    model, found = _from_pretrained(folder, attention_kind(config), trust_remote_code)
    absent = sorted(found["missing_keys"])
    if absent:
        raise NotWholeError(f"{len(absent)} of its parameters {_are(absent)} in none of its files: {_some(absent)}")
    return model


def attention_kind(config: PreTrainedConfig) -> str:
    """The fused kernel, or the eager one for models that the cross-check could not switch to it later."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    fixed = isinstance(model_class, type) and not compat.can_switch_attention(model_class)
    return "eager" if fixed else "sdpa"


def missing_files(folder: Path) -> list[str]:
    """The files that the index of weights lists and that the folder lacks."""
    for weights in WEIGHTS:
        if (folder / weights).is_file():
            return []
        files = indexed_files(folder, weights)
        if files:
            return [file for file in files if not (folder / file).is_file()]
    return []


def weights_sha256(model: PreTrainedModel) -> str:
    """SHA-256 over names, shapes, types and bytes of the parameters, as the checkpoint holds them."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Change the parameters' type in place and leave the buffers: rotary frequencies stay in float32, as in a half-precision
    load by transformers itself.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def use_fused_gelu(model: nn.Module) -> None:
    """Replace GPT-2's `gelu_new`, written as eight operations, by the fused kernel of the same function."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _from_pretrained(
    folder: Path, attention: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, dict[str, list[str]]]:
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto",
        attn_implementation=attention,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    model, found = loaded
    return model, found


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
