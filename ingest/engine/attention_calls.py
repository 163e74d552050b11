"""The arguments of every layer's attention beside the stream, recorded from the model, and forwards that stop early."""

import inspect
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.calls import RESIDUAL


@dataclass(frozen=True)
class AttentionCalls:
    """The arguments of every layer's attention beside the stream, by name, for prompts of one length.

    They depend on positions alone (masks, rotary angles, biases by distance), so that one prompt's serve any number of
    prompts; the tensors named in `per_prompt` are repeated for each of them. Those named in `streams` are the normed stream
    once more, in families whose queries, keys and values come in one by one.

    Three things belong to a forward of certain prompts (`of_prompts`): the `gates` of the layers' branches, the `states` in
    which layers leave keys and values for later ones, the argument named `shared`, and what the MLP of each layer `handed` on
    to the next one's. They are None in most models.
    """

    seq_len: int
    keywords: tuple[dict[str, Any], ...]
    beside: tuple[tuple[dict[str, Any], ...], ...]
    per_prompt: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    shared: str | None = None
    states: MutableMapping[str, tuple[Tensor, ...]] | None = None
    gates: tuple[Tensor | None, ...] | None = None
    handed: list[Tensor | None] | None = None

    def of_prompts(self, adapter: ModelAdapter, tokens: Int[Tensor, "batch pos"] | None) -> "AttentionCalls":
        """The calls of a new forward of these prompts; without any, those of a stream of zeros."""
        hands_on = any(block.hands_on for block in adapter.blocks)
        if self.shared is None and not _has_gates(adapter) and not hands_on:
            return self
        gates = _gates(adapter, tokens) if tokens is not None and _has_gates(adapter) else None
        return replace(
            self,
            states=None if self.shared is None else UserDict(),
            gates=gates,
            handed=[None] * adapter.n_layers if hands_on else None,
        )

    def copies(self, n: int) -> "AttentionCalls":
        """The calls of `n` copies of the prompts, one after the other, that go on where their forward ended."""
        states, gates, handed = self.states, self.gates, self.handed
        if states is None and gates is None and handed is None:
            return self

        def repeated(value: Tensor) -> Tensor:
            return value.repeat(n, *[1] * (value.ndim - 1))

        return replace(
            self,
            states=None
            if states is None
            else UserDict({name: tuple(repeated(value) for value in values) for name, values in states.items()}),
            gates=None if gates is None else tuple(None if gate is None else repeated(gate) for gate in gates),
            handed=None if handed is None else [None if one is None else repeated(one) for one in handed],
        )

    def gate(self, layer: int) -> Tensor | None:
        """What the branch of a layer is multiplied by."""
        return None if self.gates is None else self.gates[layer]

    def of(self, layer: int, normed: Float[Tensor, "batch pos d_model"]) -> dict[str, Any]:
        """The arguments of attention of `layer` for a batch whose normed stream is `normed`."""
        known = self._for(self.keywords[layer], normed)
        known |= dict.fromkeys(self.streams, normed)
        if self.shared in known:
            known[self.shared] = self.states
        # Some families' attention adds the stream itself: given zeros, it returns what it adds.
        return known | {RESIDUAL: torch.zeros_like(normed)} if RESIDUAL in known else known

    def of_beside(self, layer: int, number: int, normed: Float[Tensor, "batch pos d_model"]) -> dict[str, Any]:
        """The same of a part beside attention."""
        return self._for(self.beside[layer][number], normed)

    def _for(self, keywords: Mapping[str, Any], normed: Tensor) -> dict[str, Any]:
        return {
            # Of several kinds of layers, only those with a window may have a mask.
            name: _for_each(value, len(normed)) if name in self.per_prompt and isinstance(value, Tensor) else value
            for name, value in keywords.items()
        }


def record_calls(adapter: ModelAdapter, seq_len: int) -> AttentionCalls:
    """Run one prompt, then two, through the model itself and keep the arguments of every attention module."""
    one, two = (_Recorded(adapter, n, seq_len) for n in (1, 2))
    per_prompt = {
        name
        for of_one, of_two in zip(one.all(), two.all(), strict=True)
        for name, value in of_one.items()
        if isinstance(value, Tensor) and value.ndim and len(value) < len(of_two[name]) and name != RESIDUAL
    }
    return AttentionCalls(
        seq_len,
        tuple(one.keywords),
        tuple(tuple(calls) for calls in one.beside),
        frozenset(per_prompt),
        frozenset(one.streams),
        next(iter(one.shared), None),
    )


class _Recorded:
    """The arguments of every layer's attention and of what stands beside it, without the stream; `streams` are the names of
    those that are the stream again, `shared` of mappings that attention fills.
    """

    def __init__(self, adapter: ModelAdapter, n_prompts: int, seq_len: int) -> None:
        self.streams: set[str] = set()
        self.shared: set[str] = set()
        self.keywords: list[dict[str, Any]] = [{} for _ in adapter.blocks]  # a block may have no attention
        self.beside: list[list[dict[str, Any]]] = [[{} for _ in block.beside] for block in adapter.blocks]
        tokens = torch.zeros(n_prompts, seq_len, dtype=torch.long, device=adapter.device)
        with ExitStack() as hooks:
            for layer, block in enumerate(adapter.blocks):
                self._watch(hooks, block.attention, self.keywords, layer)
                for number, one in enumerate(block.beside):
                    self._watch(hooks, one.module, self.beside[layer], number)
            adapter.model(input_ids=tokens, use_cache=False, logits_to_keep=kept_logits(adapter, 1))
        if self.shared:
            self.keywords = [
                {name: None if name in self.shared else value for name, value in known.items()}
                for known in self.keywords
            ]

    def all(self) -> Iterator[dict[str, Any]]:
        """The arguments of all modules."""
        yield from self.keywords
        for of_block in self.beside:
            yield from of_block

    def _watch(self, hooks: ExitStack, module: nn.Module, places: list[dict[str, Any]], place: int) -> None:
        def keep(_: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
            places[place] = self._without_stream(module, arguments, keywords)

        hooks.callback(module.register_forward_pre_hook(keep, with_kwargs=True).remove)

    def _without_stream(
        self, module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> dict[str, Any]:
        signature = inspect.signature(module.forward)
        named = signature.bind(*arguments, **keywords).arguments
        stream, *_ = signature.parameters
        more = next((name for name, one in signature.parameters.items() if one.kind == one.VAR_KEYWORD), None)
        others = named.pop(more, {}) if more is not None else {}
        known = named | others
        self.streams.update(name for name, value in known.items() if name != stream and value is known[stream])
        self.shared.update(name for name, value in known.items() if isinstance(value, UserDict))
        return {name: value for name, value in known.items() if name != stream and name not in self.streams}


def kept_logits(adapter: ModelAdapter, n: int) -> int | Tensor:
    """The argument that asks a model for its logits at the last `n` positions; in the form in which models whose layers share
    keys still compute all positions.
    """
    return torch.arange(-n, 0, device=adapter.device) if adapter.shares_keys else n


def _has_gates(adapter: ModelAdapter) -> bool:
    return any(block.branch is not None and block.branch.argument is not None for block in adapter.blocks)


def _gates(adapter: ModelAdapter, tokens: Int[Tensor, "batch pos"]) -> tuple[Tensor | None, ...]:
    """What the model multiplies the layers' branches by on these prompts: from a forward in which its layers do nothing."""
    found: list[Tensor | None] = [None] * adapter.n_layers

    def instead(layer: int, forward: Callable[..., Any], argument: str | None) -> Callable[..., Tensor]:
        def skip(*arguments: Any, **keywords: Any) -> Tensor:
            named = inspect.signature(forward).bind(*arguments, **keywords).arguments
            found[layer] = named.get(argument) if argument is not None else None
            stream: Tensor = next(iter(named.values()))
            return stream

        return skip

    skipped = [block.module for block in adapter.blocks]
    try:
        for layer, block in enumerate(adapter.blocks):
            argument = None if block.branch is None else block.branch.argument
            vars(block.module)["forward"] = instead(layer, block.module.forward, argument)
        adapter.model(input_ids=tokens.to(adapter.device), use_cache=False, logits_to_keep=kept_logits(adapter, 1))
    finally:
        for module in skipped:
            vars(module).pop("forward", None)
    return tuple(found)


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
