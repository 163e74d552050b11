"""Everything that ingest uses of other packages' private or undocumented interfaces, in one place.

`TESTED_VERSIONS` has the version in which each was last seen to work; a test holds it equal to what is installed, so that an
upgrade leads here. Packages are imported where they are used: the hub alone is needed to fetch a model.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_LIBRARIES = ("transformers.", "transformer_lens.", "torch.")

TESTED_VERSIONS = {
    "datasets": "5.2.0",
    "huggingface-hub": "2.4.0",
    "torch": "2.13.0",
    "transformer-lens": "4.3.0",
    "transformers": "5.23.0",
}


def bridge_config(model: "PreTrainedModel", name: str) -> tuple[str, Any]:
    """TransformerBridge's name of the model's architecture, and its configuration (transformer-lens).

    Raises ValueError for an architecture that it does not know.
    """
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
    from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config

    architecture: str = determine_architecture_from_hf_config(model.config)
    return architecture, build_bridge_config_from_hf(model.config, architecture, name, model.dtype)


def hub_http_client() -> Any:
    """The HTTP client that the hub's functions use unless another is set (huggingface-hub)."""
    from huggingface_hub.utils._http import default_client_factory

    return default_client_factory()


def use_hub_offline() -> None:
    """Put the hub's functions into their offline mode, as HF_HUB_OFFLINE does at import (huggingface-hub)."""
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True


def use_datasets_offline() -> None:
    """The same for datasets, which copied the hub's constant when it was imported (datasets)."""
    import datasets

    datasets.config.HF_HUB_OFFLINE = True


def cached_refs(model: str) -> Path:
    """The folder with a file for each revision of a model in the local cache (huggingface-hub)."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=model, repo_type="model") / "refs"


def can_switch_attention(model_class: type) -> bool:
    """Whether `set_attn_implementation` works for a class of models (transformers)."""
    return bool(model_class._can_set_attn_implementation())  # type: ignore[attr-defined]


def attention_kernel(model: "PreTrainedModel") -> str:
    """Name of the attention function that a model uses (transformers)."""
    return str(model.config._attn_implementation)


def name_or_path(model: "PreTrainedModel") -> str:
    """What a model was loaded by; empty for one made from its configuration (transformers)."""
    return str(model.config._name_or_path)


def forward_hooks(module: "nn.Module") -> list[object]:
    """What runs before and after a module's forward, but for what its libraries put there themselves (torch).

    Of a TransformerBridge's hook points: what is not permanent (transformer-lens).
    """
    from transformer_lens.hook_points import HookPoint

    if isinstance(module, HookPoint):
        return [hook for hook in module.fwd_hooks if not hook.is_permanent]
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    return [hook for hook in hooks if not str(getattr(hook, "__module__", "")).startswith(_LIBRARIES)]


def unwrapped(module: "nn.Module") -> "nn.Module":
    """The module of a transformers model that a TransformerBridge put a component in the place of (transformer-lens)."""
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    while isinstance(module, GeneralizedComponent) and module.original_component is not None:
        module = module.original_component
    return module


def uses_attention_registry(attention: "nn.Module") -> bool:
    """Whether an attention module calls the function that its configuration names (transformers)."""
    return hasattr(sys.modules[type(attention).__module__], "ALL_ATTENTION_FUNCTIONS")


@contextmanager
def attention_function(attention: "nn.Module", name: str) -> Iterator[None]:
    """Within it, a module that uses the registry calls the attention function registered as `name` (transformers)."""
    config: Any = attention.config
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


def causal_attention_on_cpu(query: "Tensor", keys: "Tensor", values: "Tensor", scale: float) -> "tuple[Tensor, Tensor]":
    """Causal attention by the fused CPU kernel, with the log-sum-exp that its public function does not return (torch)."""
    import torch

    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, True, scale=scale
    )
    return found
