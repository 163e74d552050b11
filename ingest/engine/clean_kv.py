"""Change the residual stream at one position at a time, all positions in one forward.

Each position sees the clean keys and values of those before it, and its own changed ones.
"""

from collections import UserDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.attention_calls import AttentionCalls
from selfrepair.ingest.engine.clean_kv_attention import CleanKVCache, KVRecorder
from selfrepair.ingest.engine.forward import embed
from selfrepair.ingest.engine.layers import attend, attention_z, run_layer_above_attention
from selfrepair.ingest.models.adapter import ModelAdapter, unsupported
from selfrepair.ingest.terms import without_self_repression

CACHE_NAMES = ("past_key_values", "layer_past")
"""Names of the argument with the cache of keys and values, by family."""


@dataclass(frozen=True)
class CleanKVForward:
    """A clean forward of some prompts, whose layers can be run on changed streams with the clean keys and values.

    `resid_pre` is the stream that enters each layer, `final_stream` the one that leaves the last, `attention_scale` has the
    scales of attention's post-norms, None where there are none. Lists run over layers.
    """

    adapter: ModelAdapter
    resid_pre: list[Float[Tensor, "batch pos d_model"]]
    z: list[Float[Tensor, "batch pos head d_head"]]
    attention_scale: list[Float[Tensor, "batch pos"] | None]
    final_stream: Float[Tensor, "batch pos d_model"]
    calls: AttentionCalls
    caches: list[CleanKVCache]

    def of_copies(self, n: int) -> "CleanKVForward":
        """The same for streams of `n` copies of the prompts' batch, one after the other, that go through layers in order."""
        return replace(self, calls=self.calls.copies(n))

    def attend(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos head d_head"]]:
        """What attention of `layer` adds to the stream, and z, as if the stream were changed at one position alone, for every
        position.
        """
        with self.caches[layer].active():
            attention = attend(self.adapter, layer, stream, self.calls)
        return attention.added, attention.z

    def z_of_heads(
        self, layer: int, streams: Float[Tensor, "batch pos d_model"], heads: Sequence[int]
    ) -> Float[Tensor, "batch pos d_head"]:
        """The same z without the output: of `heads`, one for each copy of the prompts' batch."""
        with self.caches[layer].active(heads):
            z = attention_z(self.adapter, layer, streams, self.calls)
        by_batch = z.unflatten(0, (len(heads), -1))
        return torch.cat([of_batch[:, :, head] for of_batch, head in zip(by_batch, heads, strict=True)])

    def after_attention(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"], attention: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream after `layer`, to which attention adds `attention`."""
        return run_layer_above_attention(self.adapter, layer, stream, attention, self.calls)


def clean_kv_forward(adapter: ModelAdapter, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]) -> CleanKVForward:
    """Run the prompts clean and keep every layer's keys and values."""
    recorders = [KVRecorder() for _ in range(adapter.n_layers)]
    calls = calls.of_prompts(adapter, tokens)
    states = None if calls.states is None else _Watched()
    calls = replace(calls, states=states)
    recording = _with_caches(calls, recorders)
    stream = embed(adapter, tokens)
    resid_pre, z, scales = [], [], []
    for layer, block in enumerate(adapter.blocks):
        stream = stream.to(block.device)
        resid_pre.append(stream.clone())
        attention = attend(adapter, layer, stream, recording)
        if states is not None and not hasattr(recorders[layer], "keys"):
            recorders[layer].keys, recorders[layer].values = states[states.read]  # another layer's
        z.append(attention.z)
        scales.append(attention.scale)
        stream = run_layer_above_attention(adapter, layer, stream, attention.added, recording)
    caches = [
        CleanKVCache(recorder, block.attention) for recorder, block in zip(recorders, adapter.blocks, strict=True)
    ]
    return CleanKVForward(
        adapter,
        resid_pre,
        z,
        scales,
        stream.to(adapter.device),
        _with_caches(calls, caches, [cache.mask() for cache in caches]),
        caches,
    )


class _Watched(UserDict[str, tuple[Tensor, ...]]):
    """Keys and values that layers leave for later ones; `read` are those that were read last."""

    read = ""

    def __getitem__(self, key: str) -> tuple[Tensor, ...]:
        self.read = key
        return super().__getitem__(key)


def check_clean_kv(
    adapter: ModelAdapter, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"], tolerance: float, name: str
) -> None:
    """Prove that clean keys and values work in this model: with nothing changed, every layer's z must be the clean one.

    Raises SelfRepairError when it is not, as for attention with windows of its own or biases by distance.
    """
    reason = "its attention does not work with given keys and values, so that self-repression cannot be measured"
    step = without_self_repression().capitalize()
    if any(block.output_projection is None for block in adapter.blocks):
        raise unsupported(
            name, f"some of its layers have no attention heads, so that self-repression cannot be measured. {step}"
        )
    try:
        forward = clean_kv_forward(adapter, calls, tokens)
        for layer, stream in enumerate(forward.resid_pre):
            clean, heads = forward.z[layer], sorted({0, adapter.blocks[layer].n_heads - 1})
            _, z = forward.of_copies(2).attend(layer, stream.repeat(2, 1, 1))
            alone = forward.of_copies(len(heads)).z_of_heads(layer, stream.repeat(len(heads), 1, 1), heads)
            off = torch.cat(
                [
                    (z - clean.repeat(2, 1, 1, 1)).flatten(),
                    (alone - clean[:, :, heads].movedim(2, 0).flatten(0, 1)).flatten(),
                ]
            )
            error = float(off.abs().max() / clean.abs().max().clamp_min(1e-6))
            if not error <= tolerance:
                raise unsupported(name, f"{reason} (off by {error:.2g} of its size in layer {layer}). {step}")
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
        raise unsupported(name, f"{reason} ({error}). {step}") from error


def _with_caches(
    calls: AttentionCalls, caches: Sequence[KVRecorder | CleanKVCache], masks: Sequence[Tensor | None] | None = None
) -> AttentionCalls:
    """The same calls with these caches, and with these masks where they are given."""
    keywords: list[dict[str, Any]] = []
    for layer, (known, cache) in enumerate(zip(calls.keywords, caches, strict=True)):
        name = next((name for name in CACHE_NAMES if name in known), None)
        if name is None:
            raise LookupError("it takes no cache of keys and values")
        changed: dict[str, Any] = {name: cache} if masks is None else {name: cache, "attention_mask": masks[layer]}
        keywords.append({**known, **changed})
    return replace(calls, keywords=tuple(keywords))
