"""What decides a model's numbers beside its weights, as one digest: its configuration, its buffers, code of its own, and
modules that are not what the configuration makes.
"""

import copy
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import logging

_BOOKKEEPING = re.compile(
    r"_?(model_)?name_or_path|architectures|auto_map|transformers_version|(torch_)?dtype|use_cache|return_dict|output_\w+|id2label|"
    r"label2id|num_labels|problem_type|finetuning_task|task_specific_params|tokenizer_class|gradient_checkpointing|"
    r"(bos|eos|pad|sep|decoder_start)_token_id|initializer_\w+|summary_\w+|\w*(dropout|pdrop)|chunk_size_feed_forward"
)
"""Keys of a configuration that decide no number: names, defaults of calls, how weights are drawn, dropout (off here)."""

_ROUNDING = 1e-6
"""How far, relatively, the same frequencies may differ when another machine or device computes them."""

_LIBRARIES = ("torch.", "transformers.", "transformer_lens.")
_REMOTE_CODE = "transformers_modules."

_Module = tuple[str, dict[str, str]]
"""A module's type and its settings, such as a norm's epsilon."""


def config_sha256(model: PreTrainedModel, *, edited: bool = False) -> str:
    """SHA-256 over what decides the model's numbers beside its parameters; the same on every machine.

    It covers the configuration where it differs from its class' defaults (so that a new key of transformers changes
    nothing) without `_BOOKKEEPING`, the persistent buffers, and the code of modules that are not of a library. Of a model
    that may have been `edited` in memory, also the modules and the other buffers where the configuration makes others.
    Buffers that hold zeros alone do not count: a TransformerBridge gives an unembedding such a bias.
    """
    own = {type(module) for module in model.modules() if not _of_a_library(type(module))}
    found: dict[str, Any] = {
        "class": next((kind.__name__ for kind in type(model).__mro__ if _of_a_library(kind)), type(model).__name__),
        "config": _decisive(model.config.to_dict(), _defaults(model)),
        "code": sorted((kind.__qualname__, _source(kind)) for kind in own),
        "buffers": {name: _digest(buffer) for name, buffer in _buffers(model, persistent=True).items()},
    }
    if edited:
        found |= _edits(model)
    text = json.dumps({name: part for name, part in found.items() if part}, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()


def _decisive(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration, and of those nested in it, decides numbers and is no default."""
    found = {}
    for name, value in config.items():
        default = defaults.get(name)
        if name != "model_type" and (_BOOKKEEPING.fullmatch(name) or value == default):
            continue
        nested = isinstance(value, Mapping)
        found[name] = _decisive(value, default if isinstance(default, Mapping) else {}) if nested else value
    return found


def _defaults(model: PreTrainedModel) -> dict[str, Any]:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # some defaults do not fit each other, and say so
    try:
        return dict(type(model.config)().to_dict())
    except Exception:  # whatever a class of the user's own may raise
        return {}
    finally:
        logging.set_verbosity(verbosity)


def _edits(model: PreTrainedModel) -> dict[str, Any]:
    """Modules, and buffers beside the persistent ones, that differ from those that the configuration makes."""
    try:
        made: nn.Module = _made_anew(model)
    except Exception:  # as above
        made = nn.Module()
    usual = _modules(made, {})
    modules = _modules(model, usual)
    changed = {path: modules.get(path) for path in modules | usual if modules.get(path) != usual.get(path)}
    expected = _buffers(made, persistent=False)
    buffers = {
        name: _digest(buffer)
        for name, buffer in _buffers(model, persistent=False).items()
        if name not in expected or not _same(buffer, expected[name])
    }
    return {"modules": changed, "computed_buffers": buffers}


def _made_anew(model: PreTrainedModel) -> PreTrainedModel:
    """A model of the same configuration whose parameters have no values, and whose buffers are computed on the CPU."""
    with torch.device("meta"):
        made = type(model)(copy.deepcopy(model.config))
    with torch.device("cpu"):
        for module in made.modules():
            for name, buffer in module.named_buffers(recurse=False):
                unset = float("nan") if buffer.is_floating_point() else 0
                setattr(module, name, torch.full_like(buffer, unset, device="cpu"))
            if dict(module.named_buffers(recurse=False)):
                made._init_weights(module)
    return made


def _modules(model: nn.Module, usual: Mapping[str, _Module]) -> dict[str, _Module]:
    """Every module by its path; of settings those that a module of the same type has in `usual`, where it is there."""
    found = {}
    for path, module in model.named_modules():
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        settings = _settings(module)
        if path in usual and usual[path][0] == kind:  # a library may note things of its own beside them
            settings = {name: value for name, value in settings.items() if name in usual[path][1]}
        found[path] = (kind, settings)
    return found


def _settings(module: nn.Module) -> dict[str, str]:
    if isinstance(module, nn.Dropout | PreTrainedModel):  # does nothing where it is measured; says how it was loaded
        return {}
    settings = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    ignored = ("training", "gradient_checkpointing", "is_gradient_checkpointing")
    plain = (name for name, value in settings.items() if isinstance(value, bool | int | float | str))
    return {name: repr(settings[name]) for name in sorted(plain) if name not in ignored}


def _buffers(model: nn.Module, *, persistent: bool) -> dict[str, Tensor]:
    """The buffers that are saved with a model, or those that are not, by path."""
    return {
        f"{path}.{name}".removeprefix("."): buffer
        for path, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if (name not in module._non_persistent_buffers_set) == persistent and bool(buffer.any())
    }


def _same(buffer: Tensor, other: Tensor) -> bool:
    if buffer.shape != other.shape:
        return False
    if not buffer.is_floating_point():
        return torch.equal(buffer.cpu(), other)
    return torch.allclose(buffer.cpu().double(), other.double(), rtol=_ROUNDING, atol=0)


def _digest(buffer: Tensor) -> str:
    data = buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    return f"{buffer.dtype} {tuple(buffer.shape)} {hashlib.sha256(data).hexdigest()}"


def _of_a_library(kind: type) -> bool:
    return kind.__module__.startswith(_LIBRARIES)


def _source(kind: type) -> str:
    """The code of a class, or of the whole file that came with a model; of a class without a file, of its forward."""
    try:
        return inspect.getsource(sys.modules[kind.__module__] if kind.__module__.startswith(_REMOTE_CODE) else kind)
    except (OSError, TypeError):
        code = getattr(getattr(kind, "forward", None), "__code__", None)
        return "" if code is None else f"{code.co_code.hex()} {[const for const in code.co_consts if _is_plain(const)]}"


def _is_plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str | None)
