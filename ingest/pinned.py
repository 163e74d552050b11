"""Change the stream at one position at a time, all positions at once: each sees the clean keys and values of those before
it, and of its own the changed ones.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.atlas import Atlas, unsupported
from selfrepair.ingest.stream import AttentionCalls, attend, embed, transform

CACHE_NAMES = ("past_key_values", "layer_past")
"""What the families' attention calls the keys and values of earlier tokens."""


class _Recorder:
    """Stands for a cache of keys and values: keeps those of one layer, and hands them on."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = keys, values
        return keys, values


class _Pinned:
    """Stands for a cache that holds the clean keys and values and never changes; a batch may be several of theirs."""

    def __init__(self, clean: _Recorder) -> None:
        self._clean = clean

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        times = len(keys) // len(self._clean.keys)
        return tuple(
            torch.cat([clean.repeat(times, 1, 1, 1), changed], dim=-2)
            for clean, changed in ((self._clean.keys, keys), (self._clean.values, values))
        )  # type: ignore[return-value]


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

    def attend(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"]
    ) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos head d_head"]]:
        """What attention of `layer` adds, and z, where each position's stream is changed and no other's is.

        The batch may be several of the prompts' batch, one after the other.
        """
        return attend(self.atlas, layer, stream, self.calls)

    def after_attention(
        self, layer: int, stream: Float[Tensor, "batch pos d_model"], attention: Float[Tensor, "batch pos d_model"]
    ) -> Float[Tensor, "batch pos d_model"]:
        """The stream after `layer`, whose attention adds `attention` to it."""
        if self.atlas.parallel_blocks:
            return stream + attention + transform(self.atlas, layer, stream)[0]
        after = stream + attention
        return after + transform(self.atlas, layer, after)[0]


def pin(atlas: Atlas, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"]) -> PinnedForward:
    """Run the prompts clean and keep every layer's keys and values."""
    recorders = [_Recorder() for _ in range(atlas.n_layers)]
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
    n_pos = tokens.shape[1]
    earlier = torch.ones(n_pos, n_pos, dtype=torch.bool, device=atlas.device).tril(-1)
    seen = torch.cat([earlier, torch.eye(n_pos, dtype=torch.bool, device=atlas.device)], dim=-1)
    mask = torch.zeros(seen.shape, dtype=atlas.layer_dtype, device=atlas.device)
    mask.masked_fill_(~seen, torch.finfo(atlas.layer_dtype).min)
    pinned = _with_caches(calls, [_Pinned(recorder) for recorder in recorders], mask[None, None])
    return PinnedForward(atlas, entering, z, stream, pinned)


def check_pinning(
    atlas: Atlas, calls: AttentionCalls, tokens: Int[Tensor, "batch pos"], tolerance: float, name: str
) -> None:
    """Prove that pinning is right for this model: where nothing is changed, every layer's z must be the clean one.

    Raises SelfRepairError when it is not, as for attention with windows of its own or biases by distance.
    """
    reason = "its attention does not take other keys and values than its own, so that --feedback cannot be measured"
    try:
        forward = pin(atlas, calls, tokens)
        for layer, entering in enumerate(forward.entering):
            _, z = forward.attend(layer, entering.repeat(2, 1, 1))
            clean = forward.z[layer].repeat(2, 1, 1, 1)
            error = float((z - clean).abs().max() / clean.abs().max().clamp_min(1e-6))
            if not error <= tolerance:
                raise unsupported(
                    name, f"{reason} (off by {error:.2g} of its size in layer {layer}). Leave --feedback out"
                )
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
        raise unsupported(name, f"{reason} ({error}). Leave --feedback out") from error


def _with_caches(calls: AttentionCalls, caches: list[Any], mask: Tensor | None = None) -> AttentionCalls:
    keywords: list[dict[str, Any]] = []
    for known, cache in zip(calls.keywords, caches, strict=True):
        name = next((name for name in CACHE_NAMES if name in known), None)
        if name is None:
            raise LookupError("it has no place for earlier keys and values")
        changed = {name: cache} if mask is None else {name: cache, "attention_mask": mask}
        keywords.append({**known, **changed})
    return replace(calls, keywords=tuple(keywords))
