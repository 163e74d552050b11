"""The weights of a model in a folder: loaded unchanged, named by a digest, cast in place.

Memory never holds more than one copy of them, and one parameter.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import NewGELUActivation

from selfrepair.ingest import compat
from selfrepair.ingest.models.adapter import unsupported
from selfrepair.ingest.models.completeness import check_files, check_names, check_numbers, check_shapes
from selfrepair.ingest.models.formats import gguf_weights
from selfrepair.ingest.models.formats.peft_adapters import PACKAGE as PEFT
from selfrepair.ingest.models.formats.peft_adapters import Adapter, merge
from selfrepair.ingest.models.formats.quantization import check_method, packages_of, quantization_of, read_dequantized
from selfrepair.ingest.models.sizes import check_parameters, check_sizes


@dataclass(frozen=True)
class Weights:
    """A model on the CPU, in the type of its files or, where they hold no plain numbers, in float32.

    `origin` says what was done to the weights, for the record; `notes` tell it, and `packages` did it.
    """

    model: PreTrainedModel
    origin: str | None = None
    notes: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def read_weights(path: Path, name: str, *, trust_remote_code: bool) -> Weights:
    """The model called `name` of a folder or a GGUF file.

    Raises NotWholeError where the model and its files are not the same, and what transformers raises for whatever else is
    wrong.
    """
    found = _read_gguf(path) if path.is_file() else _read_folder(path, name, trust_remote_code)
    return replace(found, notes=found.notes + check_numbers(found.model))


def with_adapter(base: Weights, adapter: Adapter) -> Weights:
    """The weights of an adapter's base, with the adapter merged into them."""
    model = merge(base.model, adapter)
    origin = adapter.origin if base.origin is None else f"{adapter.origin} ({base.origin})"
    note = f"The adapter ({adapter.kind}) is merged into the weights of {adapter.base}, and that is what is measured."
    return Weights(model, origin, (*base.notes, note, *check_numbers(model)), (*base.packages, PEFT))


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


def cast_parameters(
    model: nn.Module, dtype: torch.dtype, those: Callable[[Tensor], bool] = lambda parameter: True
) -> None:
    """Replace the parameters of another type by ones of this type, one by one, and leave the buffers: rotary frequencies stay
    in float32, as in a half-precision load by transformers itself. A model that shares the parameters keeps its own.
    `those` says which are replaced.
    """
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places.setdefault(id(parameter), []).append((module, name))
    for (module, name), *tied in places.values():
        parameter = getattr(module, name)
        if parameter.dtype != dtype and those(parameter):
            cast = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
            for place, its_name in ((module, name), *tied):
                setattr(place, its_name, cast)


def use_fused_gelu(model: nn.Module) -> None:
    """Replace GPT-2's `gelu_new`, written as eight operations, by the fused kernel of the same function."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _read_folder(folder: Path, name: str, trust_remote_code: bool) -> Weights:
    check_sizes(folder)
    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if config.is_encoder_decoder:
        raise unsupported(name, "it is an encoder-decoder; self-repair is defined here for decoder-only models")
    method = quantization_of(config)
    if method is not None:
        check_method(method)
    check_files(folder, config)
    check_parameters(folder, config, trust_remote_code=trust_remote_code, is_quantized=method is not None)

    def read(**options: Any) -> PreTrainedModel:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation=attention_kind(config),
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # or it does not say which
            **options,
        )
        model: PreTrainedModel = loaded[0]
        _check_fit(model, loaded[1])
        return model

    if method is None:
        return Weights(read(dtype="auto"))
    note = f"The weights are quantized ({method}). They are dequantized, and that is what is measured."
    return Weights(read_dequantized(method, read), f"{method}, dequantized", (note,), packages_of(method))


def _read_gguf(file: Path) -> Weights:
    header = gguf_weights.check_gguf(file)
    config = gguf_weights.gguf_config(header)
    model, found = gguf_weights.read_gguf(header, config, attention_kind(config))
    _check_fit(model, found)
    origin, packages = f"GGUF {gguf_weights.quantization(header)}", (gguf_weights.PACKAGE,)
    if not gguf_weights.is_quantized(header):
        return Weights(model, origin, packages=packages)
    note = f"The weights are quantized ({origin}). They are dequantized, and that is what is measured."
    return Weights(model, f"{origin}, dequantized", (note,), packages)


def _check_fit(model: PreTrainedModel, found: Mapping[str, Any]) -> None:
    check_shapes(found["mismatched_keys"])
    check_names(model, found["missing_keys"], found["unexpected_keys"])
