"""Hooks on the modules of a model, and its own forward up to the final norm."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from selfrepair.ingest.models.adapter import Block, ModelAdapter


class Done(Exception):  # noqa: N818 - not an error
    """Raised by a hook: it ends a forward."""


def run_plain(adapter: ModelAdapter, inputs: Int[Tensor, "row input"]) -> None:
    """The model's own forward, which a hook ends after the final norm: the unembedding is never needed."""
    try:
        adapter.model(input_ids=inputs, use_cache=False)
    except Done:
        return
    raise RuntimeError("the final norm was not called in the model's forward")


def adds(block: Block) -> nn.Module:
    """The module whose output attention adds to the stream, but for the multiplier; in a layer without heads, what stands in
    the place of attention.
    """
    mixed = None if block.mixing is None else block.mixing.module
    return block.attention_post_norm or mixed or block.output_projection or block.attention


def entering(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
    """The stream that a block is called with."""
    stream: Tensor = arguments[0] if arguments else keywords["hidden_states"]
    return stream


def before_call(hooks: ExitStack, module: nn.Module, hook: Callable[..., Any]) -> None:
    """Hook what a module is called with."""
    hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)


def after_call(hooks: ExitStack, module: nn.Module, hook: Callable[[tuple[Any, ...], Tensor], None]) -> None:
    """Hook what a module makes."""
    hooks.callback(module.register_forward_hook(lambda _, arguments, out: hook(arguments, out)).remove)
