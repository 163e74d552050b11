"""Attention in which each position sees the clean keys and values of those before it, and its own changed ones.

Families whose attention goes through transformers' registry of attention functions get one that computes just that. The
others get clean and changed keys side by side, with a mask, which takes longer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

from selfrepair.ingest import compat

_NAME = "selfrepair_clean_kv"
_MOST_SCORES = 2**25
"""Most attention scores held at once, unless a single prompt has more."""


class KVRecorder:
    """A cache of keys and values that keeps those of one layer and returns them unchanged."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The layer attends to its own keys and values."""
        self.keys, self.values = keys, values
        return keys, values


class CleanKVCache:
    """A cache with one layer's clean keys and values, which it never changes.

    The layer is called with the same prompts, or with several copies of them, one after the other.
    """

    def __init__(self, clean: KVRecorder, attention: nn.Module) -> None:
        self._clean = clean
        self._attention = attention
        self._is_in_registry = compat.uses_attention_registry(attention)

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The keys and values that the layer attends to; `keys` and `values` are its own."""
        if self._is_in_registry:
            return keys, values
        times = len(keys) // len(self._clean.keys)
        return (
            torch.cat([self._clean.keys.repeat(times, 1, 1, 1), keys], dim=-2),
            torch.cat([self._clean.values.repeat(times, 1, 1, 1), values], dim=-2),
        )

    def mask(self) -> Float[Tensor, "1 1 pos key"] | None:
        """The mask to call the layer with."""
        if self._is_in_registry:
            return None
        clean = self._clean.keys
        own = torch.eye(clean.shape[-2], dtype=torch.bool, device=clean.device)
        seen = torch.cat([torch.ones_like(own).tril(-1), own], dim=-1)
        mask = torch.zeros(seen.shape, dtype=clean.dtype, device=clean.device)
        return mask.masked_fill_(~seen, torch.finfo(clean.dtype).min)[None, None]

    @contextmanager
    def active(self, heads: Sequence[int] | None = None) -> Iterator[None]:
        """Within it, the layer may be called. With `heads`, only that head's z is valid in each copy of the batch."""
        if not self._is_in_registry:
            yield
            return
        token = _active.set((self._clean, heads))
        try:
            with compat.attention_function(self._attention, _NAME):
                yield
        finally:
            _active.reset(token)


_active: ContextVar[tuple[KVRecorder, Sequence[int] | None]] = ContextVar(
    "clean keys and values of the layer that is called, and the head of each copy of the batch whose z is needed"
)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "batch head pos d_head"],
    key: Float[Tensor, "batch kv_head pos d_head"],
    value: Float[Tensor, "batch kv_head pos d_head"],
    _mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " head"] | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch pos head d_head"], None]:
    """The function in transformers' registry: the heads' z, and no attention pattern.

    The window, the soft-cap of the scores and the sinks are those that families pass to their own attention functions.
    """
    clean, needed_heads = _active.get()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    n_prompts, (n_heads, n_pos), group = len(clean.keys), query.shape[1:3], query.shape[1] // key.shape[1]
    n_computed = n_heads if needed_heads is None else 1
    at_once = max(1, _MOST_SCORES // (n_computed * n_pos * n_pos))
    z = query.new_empty(len(query), n_pos, n_heads, value.shape[-1])
    for batch, start in enumerate(range(0, len(query), n_prompts)):
        heads, kv_heads = slice(None), slice(None)
        if needed_heads is not None:
            head = needed_heads[batch]
            heads, kv_heads = slice(head, head + 1), slice(head // group, head // group + 1)
        for first in range(0, n_prompts, at_once):
            prompts = slice(first, min(first + at_once, n_prompts))
            here = slice(start + prompts.start, start + prompts.stop)
            z[here, :, heads] = _attend(
                query[here, heads],
                key[here, kv_heads],
                value[here, kv_heads],
                clean.keys[prompts, kv_heads],
                clean.values[prompts, kv_heads],
                Scores(scale, sliding_window, softcap, None if s_aux is None else s_aux[heads]),
            ).transpose(1, 2)
    return z, None


@dataclass(frozen=True)
class Scores:
    """How a family makes attention scores: `window` is how many positions a query sees, itself included, `softcap` bends the
    scores, and `sinks` take a share of every head's weights.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Float[Tensor, " head"] | None = None

    @property
    def are_plain(self) -> bool:
        """Whether they are scaled products and nothing else."""
        return self.window is None and self.softcap is None and self.sinks is None

    def of(self, products: Tensor) -> Tensor:
        """The scores of products of queries and keys."""
        scores = products * self.scale
        return scores if self.softcap is None else self.softcap * (scores / self.softcap).tanh()


def _attend(
    query: Float[Tensor, "prompt head pos d_head"],
    key: Float[Tensor, "prompt kv_head pos d_head"],
    value: Float[Tensor, "prompt kv_head pos d_head"],
    clean_keys: Float[Tensor, "prompt kv_head pos d_head"],
    clean_values: Float[Tensor, "prompt kv_head pos d_value"],
    scores: Scores,
) -> Float[Tensor, "prompt head pos d_value"]:
    """Attention to the clean keys before each position, moved towards its own changed value by that one's weight."""
    dtype, group = torch.promote_types(query.dtype, torch.float32), query.shape[1] // key.shape[1]
    own_query = query.to(dtype)
    own_key, own_value, keys, values = (
        tensor.to(dtype).repeat_interleave(group, dim=1) if group > 1 else tensor.to(dtype)
        for tensor in (key, value, clean_keys, clean_values)
    )
    if not scores.are_plain or value.shape[-1] != key.shape[-1]:
        return _attend_slowly(own_query, own_key, own_value, keys, values, scores).to(query.dtype)
    scale = scores.scale
    z = own_value.clone()  # the first position sees itself alone
    if query.shape[2] > 1:
        attend = compat.causal_attention_on_cpu if query.device.type == "cpu" else causal_attention
        earlier, log_total = attend(own_query[:, :, 1:], keys[:, :, :-1], values[:, :, :-1], scale)
        own = (own_query[:, :, 1:] * own_key[:, :, 1:]).sum(dim=-1).mul_(scale)
        z[:, :, 1:] = torch.lerp(earlier, own_value[:, :, 1:], torch.sigmoid(own - log_total)[..., None])
    return z.to(query.dtype)


def _attend_slowly(
    query: Float[Tensor, "prompt head pos d_head"],
    key: Float[Tensor, "prompt head pos d_head"],
    value: Float[Tensor, "prompt head pos d_value"],
    clean_keys: Float[Tensor, "prompt head pos d_head"],
    clean_values: Float[Tensor, "prompt head pos d_value"],
    scores: Scores,
) -> Float[Tensor, "prompt head pos d_value"]:
    """The same with every score written out."""
    n_pos = query.shape[2]
    place = torch.arange(n_pos, device=query.device)
    distance = place[:, None] - place
    hidden = (distance < 1) | (distance >= (scores.window or n_pos))
    earlier = scores.of(query @ clean_keys.mT).masked_fill(hidden, -torch.inf)
    own = scores.of((query * key).sum(dim=-1, keepdim=True))
    total = [earlier, own]
    if scores.sinks is not None:
        total.append(scores.sinks.to(own.dtype)[:, None, None].expand_as(own))
    weights = torch.cat(total, dim=-1).softmax(dim=-1)
    return weights[..., :n_pos] @ clean_values + weights[..., n_pos : n_pos + 1] * value


def causal_attention(
    query: Float[Tensor, "prompt head pos d_head"],
    keys: Float[Tensor, "prompt head pos d_head"],
    values: Float[Tensor, "prompt head pos d_head"],
    scale: float,
) -> tuple[Float[Tensor, "prompt head pos d_head"], Float[Tensor, "prompt head pos"]]:
    """Causal attention, and the log-sum-exp of each position's scores."""
    scores = (query * scale) @ keys.mT
    scores.masked_fill_(torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1), -torch.inf)
    log_total = scores.logsumexp(dim=-1)
    return scores.sub_(log_total[..., None]).exp_() @ values, log_total


AttentionInterface.register(_NAME, _attention)
