"""The arguments of every layer's attention beside the stream, recorded from the model, and forwards that stop early."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.parts import RESIDUAL


@dataclass(frozen=True)
class AttentionCalls:
    """The arguments of every layer's attention beside the stream, by name, for prompts of one length.

    They depend on positions alone (masks, rotary angles, biases by distance), so that one prompt's serve any number of
    prompts; the tensors named in `per_prompt` are repeated for each of them. Those named in `streams` are the normed stream
    once more, in families whose queries, keys and values come in one by one.
    """

    seq_len: int
    keywords: tuple[dict[str, Any], ...]
    per_prompt: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()

    def of(self, layer: int, normed: Float[Tensor, "batch pos d_model"]) -> dict[str, Any]:
        """The arguments of `layer` for a batch whose normed stream is `normed`."""
        known = {
            # Of several kinds of layers, only those with a window may have a mask.
            name: _for_each(value, len(normed)) if name in self.per_prompt and isinstance(value, Tensor) else value
            for name, value in self.keywords[layer].items()
        }
        known |= dict.fromkeys(self.streams, normed)
        # Some families' attention adds the stream itself: given zeros, it returns what it adds.
        return known | {RESIDUAL: torch.zeros_like(normed)} if RESIDUAL in known else known


def record_calls(adapter: ModelAdapter, seq_len: int) -> AttentionCalls:
    """Run one prompt, then two, through the model itself and keep the arguments of every attention module."""
    streams: set[str] = set()
    one, two = (
        _recorded(adapter, torch.zeros(n, seq_len, dtype=torch.long, device=adapter.device), streams) for n in (1, 2)
    )
    per_prompt = {
        name
        for of_one, of_two in zip(one, two, strict=True)
        for name, value in of_one.items()
        if isinstance(value, Tensor) and value.ndim and len(value) < len(of_two[name]) and name != RESIDUAL
    }
    return AttentionCalls(seq_len, tuple(one), frozenset(per_prompt), frozenset(streams))


def _recorded(adapter: ModelAdapter, tokens: Int[Tensor, "batch pos"], streams: set[str]) -> list[dict[str, Any]]:
    """The arguments of every layer's attention, without the stream; names of those that are the stream go into `streams`."""
    seen: dict[int, dict[str, Any]] = {}

    def keep(layer: int, module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        signature = inspect.signature(module.forward)
        named = signature.bind(*arguments, **keywords).arguments
        stream, *_ = signature.parameters
        more = next((name for name, one in signature.parameters.items() if one.kind == one.VAR_KEYWORD), None)
        others = named.pop(more, {}) if more is not None else {}
        known = named | others
        streams.update(name for name, value in known.items() if name != stream and value is known[stream])
        seen[layer] = {name: value for name, value in known.items() if name != stream and name not in streams}

    handles = [
        block.attention.register_forward_pre_hook(
            lambda module, arguments, keywords, layer=layer: keep(layer, module, arguments, keywords), with_kwargs=True
        )
        for layer, block in enumerate(adapter.blocks)
    ]
    try:
        adapter.model(input_ids=tokens, use_cache=False, logits_to_keep=1)
    finally:
        for handle in handles:
            handle.remove()
    return [seen[layer] for layer in range(adapter.n_layers)]


@contextmanager
def captured_input(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Within it, the first arguments of calls of `module`; none where there is no module."""
    seen: list[Tensor] = []
    if module is None:
        yield seen
        return
    handle = module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    try:
        yield seen
    finally:
        handle.remove()


class _Stopped(Exception):  # noqa: N818 - not an error: it ends a forward
    pass


@contextmanager
def stopped_at(module: nn.Module) -> Iterator[list[Tensor]]:
    """A forward within it ends where it would call `module`, whose input is kept."""
    seen: list[Tensor] = []

    def stop(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.append(arguments[0] if arguments else keywords["hidden_states"])
        raise _Stopped

    handle = module.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        yield seen
    except _Stopped:
        pass
    finally:
        handle.remove()


def _for_each(value: Tensor, n_prompts: int) -> Tensor:
    """One prompt's argument for a batch of `n_prompts`; expanding a first axis of one takes no memory."""
    shape = [1] * (value.ndim - 1)
    return value.expand(n_prompts, *value.shape[1:]) if len(value) == 1 else value.repeat(n_prompts, *shape)
