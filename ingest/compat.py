"""Everything that ingest uses of other packages' private or undocumented interfaces, and of the texts of their errors where
no class tells two apart, in one place.

`TESTED_VERSIONS` has the version in which each was last seen to work; a test holds it equal to what is installed, so that an
upgrade leads here. Packages are imported where they are used: the hub alone is needed to fetch a model.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

_LIBRARIES = ("transformers.", "transformer_lens.", "torch.")

_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "Invalid buffer size")
"""Of a RuntimeError: the allocators of CPU and CUDA, cuBLAS, and Apple's GPU."""

HUB_NO_ROOM = "Not enough free disk space"
"""How the hub's client begins its warning of a file that is larger than the free space (huggingface-hub)."""

TESTED_VERSIONS = {
    "datasets": "5.2.0",
    "huggingface-hub": "2.4.0",
    "ray": "2.60.0",
    "torch": "2.13.0",
    "transformer-lens": "4.3.0",
    "transformers": "5.23.0",
}


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


def has_fused_attention(model_class: type) -> bool:
    """Whether a class of models works with PyTorch's scaled-dot-product attention (transformers)."""
    return bool(model_class._supports_sdpa)  # type: ignore[attr-defined]


def use_plain_experts(model: "nn.Module") -> None:
    """Have a mixture of experts run one expert after the other: its fused kernels do not take float64 (transformers)."""
    from transformers import PreTrainedModel

    if isinstance(model, PreTrainedModel) and model._can_set_experts_implementation():
        model.set_experts_implementation("eager")


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


def says_out_of_memory(error: Exception) -> bool:
    """Whether a RuntimeError other than `torch.OutOfMemoryError` says that memory does not suffice (torch)."""
    return any(text in str(error) for text in _OUT_OF_MEMORY)


def is_hub_no_room(warning: BaseException) -> bool:
    """Whether it is the warning of a file that is larger than the free space (huggingface-hub)."""
    return isinstance(warning, Warning) and str(warning).startswith(HUB_NO_ROOM)


def wants_to_run_code(error: Exception) -> bool:
    """Whether a model or tokenizer was not loaded because that would run code from its files (transformers)."""
    return isinstance(error, ValueError) and "trust_remote_code" in str(error)


def is_pickle_with_code(error: BaseException) -> bool:
    """Whether weights were not loaded because their pickle holds more than tensors (torch)."""
    return "weights_only" in str(error) or "Weights only load failed" in str(error)


def is_no_language_model(error: Exception) -> bool:
    """Whether a configuration is none of a causal language model (transformers)."""
    return isinstance(error, ValueError) and "Unrecognized configuration class" in str(error)


def is_gated_dataset(error: Exception) -> bool:
    """Whether a dataset asks for terms to be accepted; it is raised without the hub's own GatedRepoError (datasets)."""
    return isinstance(error, FileNotFoundError) and "gated dataset" in str(error)


def is_dataset_program(error: Exception) -> bool:
    """Whether a dataset is a script that makes one (datasets)."""
    return isinstance(error, RuntimeError) and "scripts are no longer supported" in str(error)


def lacks_dataset_config(error: Exception) -> bool:
    """Whether a dataset is several in one, none of which was named (datasets)."""
    return isinstance(error, ValueError) and "Config name is missing" in str(error)


def is_dataset_without_rows(error: Exception) -> bool:
    """Whether a file of a dataset holds no row: Parquet is then read in batches of none (datasets)."""
    return "batchsize must be greater than 0" in str(error).lower()


def is_unknown_gguf(error: Exception) -> bool:
    """Whether the architecture of a GGUF file is none that can be read (transformers)."""
    return isinstance(error, ValueError) and "is not supported yet" in str(error)


def is_unknown_architecture(error: Exception) -> bool:
    """Whether a configuration's `model_type` is none that this release knows (transformers)."""
    return isinstance(error, ValueError) and "does not recognize this architecture" in str(error)


def first_misfit(error: Exception) -> str:
    """Of an error that lists the weights of another shape than their modules', the first (torch); else the whole message."""
    return next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error))


def ray_address(typed: str | None) -> str | None:
    """`auto`, or None for whatever there is -> host:port of the running cluster; None where none is known (ray).

    Raises ConnectionError for `auto` where none is.
    """
    from ray._private import services

    canonical: Any = services.canonicalize_bootstrap_address  # takes None, whatever its annotation says
    found = canonical(typed)
    return None if found is None else str(found)


@contextmanager
def ray_tries_for(seconds: float) -> Iterator[None]:
    """Within it, a cluster that refuses to be joined is tried for so long, unless the user says how long (ray)."""
    name = "RAY_gcs_server_port_wait_time_s"
    is_set = name in os.environ
    os.environ.setdefault(name, str(int(seconds)))
    try:
        yield
    finally:
        if not is_set:
            del os.environ[name]
