"""Change the stream at one position at a time, all positions at once: each sees the clean keys and values of those before
it, and of its own the changed ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.engine.clean_kv_attention import Pinned, Recorder
from selfrepair.ingest.engine.forward import AttentionCalls, attend, embed, heads_alone, transform
from selfrepair.ingest.models.adapter import Atlas, unsupported

CACHE_NAMES = ("past_key_values", "layer_past")
"""What the families' attention calls the keys and values of earlier tokens."""


@dataclass(frozen=True)
class PinnedForward:
    """A clean forward of some prompts: the stream that enters each layer and that leaves the last, z of every head, and
    what is needed to run its layers with other streams. Lists run over layers.
    """

    atlas: Atlas
    entering: list[Float[Tensor, "batch pos d_model"]]
    z: list[Float[Tensor, "batch pos head d_head"]]
    final: Float[Tensor, "batch pos d_model"]
    calls: AttentionCalls
    pinned: list[Pinned]

    def attend(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos head d_head"]]:
        """What attention of `layer` adds, and z, where each position's stream is changed and no other's is.

        The batch may be several of the prompts' batch, one after the other.
        """
        with self.pinned[layer].in_use():
            return attend(self.atlas, layer, stream, self.calls)

    def attend_alone(
        self, layer: int, streams: Float[Tensor, "batch pos d_model"], heads: Sequence[int]
    ) -> Float[Tensor, "batch pos d_head"]:
        """The same z where what attention adds is not asked for: of `heads`, one for each of the prompts' batches."""
        with self.pinned[layer].in_use(heads):
            z = heads_alone(self.atlas, layer, streams, self.calls)
        by_batch = z.unflatten(0, (len(heads), -1))
        return torch.cat([of_batch[:, :, head] for of_batch, head in zip(by_batch, heads, strict=True)])

    def after_attention(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"], attention: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream after `layer`, whose attention adds `attention` to it."""
        after = stream + attention
        return after.add_(transform(self.atlas, layer, stream if self.atlas.parallel_blocks else after)[0])


def pin(atlas: Atlas, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]) -> PinnedForward:
    """Run the prompts clean and keep every layer's keys and values."""
    recorders = [Recorder() for _ in range(atlas.n_layers)]
    recording = _with_caches(calls, recorders)
    stream = embed(atlas, tokens)
    entering, z = [], []
    for layer in range(atlas.n_layers):
        entering.append(stream.clone())
        attention, of_heads = attend(atlas, layer, stream, recording)
        z.append(of_heads)
        if atlas.parallel_blocks:
            stream = stream + attention + transform(atlas, layer, stream)[0]
        else:
            stream = stream + attention
            stream = stream + transform(atlas, layer, stream)[0]
    pinned = [Pinned(recorder, block.attention) for recorder, block in zip(recorders, atlas.blocks, strict=True)]
    return PinnedForward(
        atlas, entering, z, stream, _with_caches(calls, pinned, [one.mask() for one in pinned]), pinned
    )


def check_pinning(
    atlas: Atlas, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"], tolerance: float, name: str
) -> None:
    """Prove that pinning is right for this model: where nothing is changed, every layer's z must be the clean one.

    Raises SelfRepairError when it is not, as for attention with windows of its own or biases by distance.
    """
    reason = (
        "its attention does not take other keys and values than its own, so that --self-repression cannot be measured"
    )
    try:
        forward = pin(atlas, calls, tokens)
        for layer, entering in enumerate(forward.entering):
            clean, heads = forward.z[layer], sorted({0, atlas.n_heads - 1})
            _, z = forward.attend(layer, entering.repeat(2, 1, 1))
            alone = forward.attend_alone(layer, entering.repeat(len(heads), 1, 1), heads)
            off = torch.cat(
                [
                    (z - clean.repeat(2, 1, 1, 1)).flatten(),
                    (alone - clean[:, :, heads].movedim(2, 0).flatten(0, 1)).flatten(),
                ]
            )
            error = float(off.abs().max() / clean.abs().max().clamp_min(1e-6))
            if not error <= tolerance:
                raise unsupported(
                    name, f"{reason} (off by {error:.2g} of its size in layer {layer}). Leave --self-repression out"
                )
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
        raise unsupported(name, f"{reason} ({error}). Leave --self-repression out") from error


def _with_caches(
    calls: AttentionCalls, caches: Sequence[Recorder | Pinned], masks: Sequence[Tensor | None] | None = None
) -> AttentionCalls:
    """The same calls with these instead of the caches, and of the masks where there are some."""
    keywords: list[dict[str, Any]] = []
    for layer, (known, cache) in enumerate(zip(calls.keywords, caches, strict=True)):
        name = next((name for name in CACHE_NAMES if name in known), None)
        if name is None:
            raise LookupError("it has no place for earlier keys and values")
        changed: dict[str, Any] = {name: cache} if masks is None else {name: cache, "attention_mask": masks[layer]}
        keywords.append({**known, **changed})
    return replace(calls, keywords=tuple(keywords))
