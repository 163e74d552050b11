"""Attention in which each position sees the clean keys and values of those before it, and its own changed ones.

Families whose attention goes through transformers' registry of attention functions get one that computes just that. The
others are handed clean and changed keys side by side, with a mask, which takes longer.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface

_NAME = "selfrepair_pinned"
_MOST_SCORES = 2**25
"""Scores that are held at once, unless a single prompt has more."""


class Recorder:
    """Stands for a cache of keys and values: keeps those of one layer, and hands them on."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What the layer attends to: its own."""
        self.keys, self.values = keys, values
        return keys, values


class Pinned:
    """Stands for a cache that holds one layer's clean keys and values and never changes.

    The layer is then called with a batch, or with several such batches one after the other.
    """

    def __init__(self, clean: Recorder, attention: nn.Module) -> None:
        self._clean = clean
        self._attention = attention
        self._is_in_registry = hasattr(sys.modules[type(attention).__module__], "ALL_ATTENTION_FUNCTIONS")

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """What the layer attends to, its own keys and values being these."""
        if self._is_in_registry:
            return keys, values
        times = len(keys) // len(self._clean.keys)
        return (
            torch.cat([self._clean.keys.repeat(times, 1, 1, 1), keys], dim=-2),
            torch.cat([self._clean.values.repeat(times, 1, 1, 1), values], dim=-2),
        )

    def mask(self) -> Float[Tensor, "1 1 pos key"] | None:
        """What the layer is called with as its mask."""
        if self._is_in_registry:
            return None
        clean = self._clean.keys
        own = torch.eye(clean.shape[-2], dtype=torch.bool, device=clean.device)
        seen = torch.cat([torch.ones_like(own).tril(-1), own], dim=-1)
        mask = torch.zeros(seen.shape, dtype=clean.dtype, device=clean.device)
        return mask.masked_fill_(~seen, torch.finfo(clean.dtype).min)[None, None]

    @contextmanager
    def in_use(self, heads: Sequence[int] | None = None) -> Iterator[None]:
        """While it lasts, the layer may be called; of each of the batches one of `heads` counts, where they are given, and
        the others' z may be anything.
        """
        if not self._is_in_registry:
            yield
            return
        config: Any = self._attention.config
        before, config._attn_implementation = config._attn_implementation, _NAME
        token = _in_use.set((self._clean, heads))
        try:
            yield
        finally:
            _in_use.reset(token)
            config._attn_implementation = before


_in_use: ContextVar[tuple[Recorder, Sequence[int] | None]] = ContextVar(
    "clean keys and values of the layer that is called, and the head of each batch that counts"
)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "batch head pos d_head"],
    key: Float[Tensor, "batch kv_head pos d_head"],
    value: Float[Tensor, "batch kv_head pos d_head"],
    _mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch pos head d_head"], None]:
    """What transformers calls: the heads' z, and no pattern."""
    clean, counting = _in_use.get()
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    n_prompts, (n_heads, n_pos), group = len(clean.keys), query.shape[1:3], query.shape[1] // key.shape[1]
    n_computed = n_heads if counting is None else 1
    at_once = max(1, _MOST_SCORES // (n_computed * n_pos * n_pos))
    z = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
    for batch, start in enumerate(range(0, len(query), n_prompts)):
        heads, kv_heads = slice(None), slice(None)
        if counting is not None:
            head = counting[batch]
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
                scale,
            ).transpose(1, 2)
    return z, None


def _attend(
    query: Float[Tensor, "prompt head pos d_head"],
    key: Float[Tensor, "prompt kv_head pos d_head"],
    value: Float[Tensor, "prompt kv_head pos d_head"],
    clean_keys: Float[Tensor, "prompt kv_head pos d_head"],
    clean_values: Float[Tensor, "prompt kv_head pos d_head"],
    scale: float,
) -> Float[Tensor, "prompt head pos d_head"]:
    """Attention to the clean keys before each position, and the weight by which the changed one at it moves that."""
    dtype, group = torch.promote_types(query.dtype, torch.float32), query.shape[1] // key.shape[1]
    own_query = query.to(dtype)
    own_key, own_value, keys, values = (
        tensor.to(dtype).repeat_interleave(group, dim=1) if group > 1 else tensor.to(dtype)
        for tensor in (key, value, clean_keys, clean_values)
    )
    z = own_value.clone()  # the first position sees itself alone
    if query.shape[2] > 1:
        read = _attend_on_cpu if query.device.type == "cpu" else attend_to_earlier
        earlier, log_total = read(own_query[:, :, 1:], keys[:, :, :-1], values[:, :, :-1], scale)
        own = (own_query[:, :, 1:] * own_key[:, :, 1:]).sum(dim=-1).mul_(scale)
        z[:, :, 1:] = torch.lerp(earlier, own_value[:, :, 1:], torch.sigmoid(own - log_total)[..., None])
    return z.to(query.dtype)


def _attend_on_cpu(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The same as `attend_to_earlier` by torch's fused kernel, whose public function keeps the sums to itself."""
    found: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, keys, values, 0.0, True, scale=scale
    )
    return found


def attend_to_earlier(
    query: Float[Tensor, "prompt head pos d_head"],
    keys: Float[Tensor, "prompt head pos d_head"],
    values: Float[Tensor, "prompt head pos d_head"],
    scale: float,
) -> tuple[Float[Tensor, "prompt head pos d_head"], Float[Tensor, "prompt head pos"]]:
    """Causal attention, and the logarithm of each position's sum of exponentials."""
    scores = (query * scale) @ keys.mT
    scores.masked_fill_(torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1), -torch.inf)
    log_total = scores.logsumexp(dim=-1)
    return scores.sub_(log_total[..., None]).exp_() @ values, log_total


AttentionInterface.register(_NAME, _attention)
