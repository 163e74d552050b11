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
from selfrepair.ingest.models.completeness import check_files, check_names
from selfrepair.ingest.models.sizes import check_parameters


def read_weights(folder: Path, config: PreTrainedConfig, *, trust_remote_code: bool) -> PreTrainedModel:
    """The model of a folder on the CPU, in the type of its files.

    Raises NotWholeError where the model and its files are not the same, and what transformers raises for whatever else is
    wrong.
    """
    check_files(folder, config)
    check_parameters(folder, config, trust_remote_code=trust_remote_code)
    model, found = _from_pretrained(folder, attention_kind(config), trust_remote_code)
    check_names(model, found["missing_keys"], found["unexpected_keys"])
    return model


def attention_kind(config: PreTrainedConfig) -> str:
    """The fused kernel, or the family's own where there is none: for soft-capped attention scores, sinks, or a model that the
    cross-check could not switch to it later.
    """
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if isinstance(model_class, type) and not (
        compat.can_switch_attention(model_class) and compat.has_fused_attention(model_class)
    ):
        return "eager"
    return "eager" if getattr(config.get_text_config(), "attn_logit_softcapping", None) else "sdpa"


def weights_sha256(model: PreTrainedModel) -> str:
    """SHA-256 over names, shapes, types and bytes of the parameters, as the checkpoint holds them."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace the parameters of another type by ones of this type, one by one, and leave the buffers: rotary frequencies stay
    in float32, as in a half-precision load by transformers itself. A model that shares the parameters keeps its own.
    """
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(parameter), []).append((module, name))
    for (module, name), *tied in places.values():
        parameter = getattr(module, name)
        if parameter.dtype != dtype:
            cast = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
            for place, its_name in ((module, name), *tied):
                setattr(place, its_name, cast)


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
