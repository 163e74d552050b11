"""Ablate heads: replace z everywhere, let the layers above run, and split the change in logit into its parts.

Many heads are ablated in one forward: a stack holds one copy of the prompts per ablated head, and only the layers
that can see the ablation are run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from selfrepair.ingest.engine.clean import CleanBatch, read_along
from selfrepair.ingest.engine.forward import AttentionCalls, attend, transform
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.unembedding import final_scale
from selfrepair.ingest.models.adapter import Atlas


@dataclass(frozen=True)
class Cell:
    """One head ablated in one way."""

    layer: int
    head: int
    ablation: str


@dataclass(frozen=True)
class Replacements:
    """What can stand in for a head's z; an ablation that is not asked for is None.

    `value_bias` is zero ablation's (the head then adds nothing), `mean` the reference set's mean over prompts and
    positions, `partner` the partner prompts' z at the same positions (a list over layers).
    """

    value_bias: Float[Tensor, "layer head d_head"]
    mean: Float[Tensor, "layer head d_head"] | None
    partner: list[Float[Tensor, "batch pos head d_head"]] | None

    def of(self, cell: Cell) -> Float[Tensor, "*batch_pos d_head"]:
        """Z' of the cell's head, broadcastable over [batch, pos, d_head]."""
        if cell.ablation == "resample" and self.partner is not None:
            return self.partner[cell.layer][:, :, cell.head]
        if cell.ablation == "mean" and self.mean is not None:
            return self.mean[cell.layer, cell.head]
        if cell.ablation == "zero":
            return self.value_bias[cell.layer, cell.head]
        raise ValueError(f"no replacement for {cell.ablation} ablation was prepared")


class Watcher(Protocol):
    """What looks on while the layers above an ablated stack run."""

    def heads(self, layer: int, z: Float[Tensor, "cell batch pos head d_head"]) -> None:
        """Attention of `layer` ran with these z."""

    def mlp(
        self,
        layer: int,
        change: Float[Tensor, "cell batch pos"],
        activations: Float[Tensor, "cell batch pos neuron"] | None,
    ) -> None:
        """The MLP of `layer` ran; its read along the targets' directions changed by `change` (logits times S)."""

    def end(self, stream: Float[Tensor, "cell batch pos d_model"]) -> None:
        """The final residual stream is `stream`."""


def ablate(
    atlas: Atlas,
    calls: AttentionCalls,
    clean: CleanBatch,
    replacements: Replacements,
    cells: list[Cell],
    watchers: Sequence[Watcher] = (),
) -> Float[Tensor, "cell batch pos effect"]:
    """All effects of a stack of cells of ONE layer, in logits, in the order of `conventions.EFFECTS`."""
    layer = cells[0].layer
    heads = [cell.head for cell in cells]
    dtype = atlas.stream_dtype
    weight = atlas.head_output_weight(layer)[heads].to(dtype)
    bias = replacements.value_bias[layer, heads][:, None, None].to(dtype)
    before = clean.z[layer][:, :, heads].movedim(2, 0).to(dtype)
    after = torch.stack([replacements.of(cell).expand_as(z) for cell, z in zip(cells, before, strict=True)]).to(dtype)

    with full_precision():
        difference = einsum(
            after - before, weight, "cell batch pos d_head, cell d_head d_model -> cell batch pos d_model"
        )
    read_out = clean.read_outs[layer][:, :, heads].movedim(2, 0)
    direct = read_along((before - bias)[:, :, clean.measured], read_out) / clean.scale
    ablated_direct = read_along((after - bias)[:, :, clean.measured], read_out) / clean.scale

    stream = clean.branch[layer] + difference
    attention, mlp = _run_above(atlas, calls, clean, stream, layer, watchers)

    end = stream[:, :, clean.measured]
    scale = final_scale(atlas, end)
    read = read_along(end, clean.directions)
    return torch.stack(
        [
            direct,
            ablated_direct,
            read / scale - clean.read / clean.scale,
            read * (1 / scale - 1 / clean.scale),
            attention / clean.scale,
            mlp / clean.scale,
            clean.scale / scale,
        ],
        dim=-1,
    )


def _run_above(
    atlas: Atlas,
    calls: AttentionCalls,
    clean: CleanBatch,
    stream: Float[Tensor, "cell batch input d_model"],
    layer: int,
    watchers: Sequence[Watcher],
) -> tuple[Float[Tensor, "cell batch pos"], Float[Tensor, "cell batch pos"]]:
    """Run what sees the ablation, updating `stream` in place; the summed changes of attention and MLP reads."""
    here = clean.measured
    attention_change = torch.zeros_like(stream[:, :, here, 0])
    mlp_change = torch.zeros_like(attention_change)
    flat = stream.flatten(0, 1)

    def add(out: Tensor, clean_read: Tensor, change: Tensor) -> Tensor:
        out = out.unflatten(0, stream.shape[:2])
        added = read_along(out[:, :, here], clean.directions) - clean_read
        change += added
        stream.add_(out)
        return added

    def run_attention(above: int) -> Tensor:
        out, z = attend(atlas, above, flat, calls)
        for watcher in watchers:
            watcher.heads(above, z.unflatten(0, stream.shape[:2])[:, :, here])
        return out

    def run_mlp(above: int) -> tuple[Tensor, Tensor | None]:
        return transform(atlas, above, flat, keep_activations=above in clean.activations)

    def add_mlp(above: int, out: Tensor, activations: Tensor | None) -> None:
        change = add(out, clean.mlp_reads[above], mlp_change)
        if activations is not None:
            activations = activations.unflatten(0, stream.shape[:2])[:, :, here]
        for watcher in watchers:
            watcher.mlp(above, change, activations)

    if not atlas.parallel_blocks:
        add_mlp(layer, *run_mlp(layer))
    for above in range(layer + 1, atlas.n_layers):
        attention = run_attention(above)
        if atlas.parallel_blocks:
            mlp = run_mlp(above)
            add(attention, clean.attention_reads[above], attention_change)
        else:
            add(attention, clean.attention_reads[above], attention_change)
            mlp = run_mlp(above)
        add_mlp(above, *mlp)
    for watcher in watchers:
        watcher.end(stream[:, :, here])
    return attention_change, mlp_change


def identity_error(effects: Float[Tensor, "*row effect"]) -> Float[Tensor, "*row"]:
    """|R - (repair by LayerNorm + attention + MLP)| in logits: zero but for rounding, since R is measured apart."""
    direct, ablated_direct, logit_change, layernorm, attention, mlp, _ = effects.unbind(-1)
    return (logit_change - (ablated_direct - direct) - (layernorm + attention + mlp)).abs()
