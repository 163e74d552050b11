"""Ablate heads: replace z at every position, run the layers above, and split the change in logit into its parts.

Many heads are ablated in one forward: a stack holds one copy of the prompts per ablated head, and only the layers that
can see the ablation are run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.ingest.engine.layers import MLPOutput, apply_branch, apply_mlp, attend, seen_at
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.projection import project
from selfrepair.ingest.engine.routing import RoutedOutput
from selfrepair.ingest.engine.unembedding import final_scale
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.additions import Addition, Factor, times


@dataclass(frozen=True)
class HeadAblation:
    """One head and how it is ablated (one of `conventions.ABLATIONS`)."""

    layer: int
    head: int
    ablation: str


@dataclass(frozen=True)
class Replacements:
    """The z that ablations put in place of a head's own; None for an ablation that the run does not have.

    `value_bias` is zero ablation's (the head then adds nothing), `mean` the reference set's mean over prompts and
    positions, `partner` the partner prompts' z at the same positions (a list over layers).
    """

    value_bias: Float[Tensor, "layer head d_head"]
    mean: Float[Tensor, "layer head d_head"] | None
    partner: list[Float[Tensor, "batch pos head d_head"]] | None

    def of(self, ablated: HeadAblation) -> Float[Tensor, "*batch_pos d_head"]:
        """The new z of the ablated head, broadcastable over [batch, pos, d_head]."""
        if ablated.ablation == "resample" and self.partner is not None:
            return self.partner[ablated.layer][:, :, ablated.head]
        if ablated.ablation == "mean" and self.mean is not None:
            return self.mean[ablated.layer, ablated.head]
        if ablated.ablation == "zero":
            return self.value_bias[ablated.layer, ablated.head]
        raise ValueError(f"no replacement for {ablated.ablation} ablation was prepared")


class Observer:
    """Sees the forward of the layers above an ablated stack; the methods here ignore what they are given.

    That is on the layer's device, but for changes of DLA and the final stream, which are on the adapter's.
    """

    def on_attention(
        self,
        layer: int,
        z: Float[Tensor, "ablated batch pos head d_head"],
        rescaled: Float[Tensor, "ablated batch pos"] | None,
    ) -> None:
        """Attention of `layer` ran, and its heads' z were these. `rescaled` is the clean scale of its post-norm over this
        forward's, None where there is none.
        """

    def on_mlp(
        self,
        layer: int,
        dla_change: Float[Tensor, "ablated batch pos"],
        activations: Float[Tensor, "ablated batch pos neuron"] | None,
        rescaled: Float[Tensor, "ablated batch pos"] | None,
    ) -> None:
        """The MLP of `layer` ran, and the branch after it; their DLA changed by `dla_change` (logits times S). `rescaled` as in
        `on_attention`.
        """

    def on_experts(
        self,
        layer: int,
        dla_change: Float[Tensor, "ablated batch pos"],
        routed: RoutedOutput,
        rescaled: Float[Tensor, "ablated batch pos"] | None,
    ) -> None:
        """The MLP of `layer` ran, whose routing is kept; as in `on_mlp`."""

    def on_final_stream(self, stream: Float[Tensor, "ablated batch pos d_model"]) -> None:
        """The forward ended with this residual stream."""


def ablate(
    adapter: ModelAdapter,
    clean: CleanBatch,
    replacements: Replacements,
    stack: Sequence[HeadAblation],
    observers: Sequence[Observer] = (),
) -> Float[Tensor, "ablated batch pos effect"]:
    """All effects of a stack of ablated heads of ONE layer, in logits, in the order of `conventions.EFFECTS`."""
    layer = stack[0].layer
    heads = [ablated.head for ablated in stack]
    dtype = adapter.stream_dtype
    weight = adapter.head_output_weight(layer)[heads].to(dtype)
    before = clean.z[layer][:, :, heads].movedim(2, 0).to(dtype)
    own = slice(before.shape[-1])
    bias = replacements.value_bias[layer, heads, own][:, None, None].to(before)
    after = torch.stack(
        [
            replacements.of(ablated)[..., own].to(before.device).expand_as(z)
            for ablated, z in zip(stack, before, strict=True)
        ]
    ).to(dtype)
    home, here = adapter.device, adapter.blocks[layer].device

    with full_precision():
        difference = einsum(
            after - before, weight, "ablated batch pos d_head, ablated d_head d_model -> ablated batch pos d_model"
        )
    difference = _difference_added(adapter, clean, layer, difference)
    head_directions = clean.head_directions[layer][:, :, heads].movedim(2, 0)

    def direct_effect(z: Float[Tensor, "ablated batch input d_head"]) -> Float[Tensor, "ablated batch pos"]:
        seen = seen_at(adapter, layer, (z - bias)[:, :, :, None])[:, :, clean.measured, 0]
        return project(seen, head_directions).to(home) / clean.scale

    direct, ablated_direct = direct_effect(before), direct_effect(after)

    post_norm = torch.zeros_like(direct)
    if clean.attention_scale[layer] is not None:
        directions = times(clean.directions_on[here], adapter.blocks[layer].attention_reach)
        added = project(difference[:, :, clean.measured], directions).to(home) / clean.scale
        post_norm = added - (ablated_direct - direct)

    stream = clean.branch[layer] + difference
    stream, attention, mlp = _run_above(adapter, clean, stream, layer, observers)

    final = stream[:, :, clean.measured].to(home)
    scale = final_scale(adapter, final)
    final_dla = project(final, clean.logit_directions)
    return torch.stack(
        [
            direct,
            ablated_direct,
            final_dla / scale - clean.final_dla / clean.scale,
            final_dla * (1 / scale - 1 / clean.scale),
            attention / clean.scale,
            mlp / clean.scale,
            post_norm,
            clean.scale / scale,
        ],
        dim=-1,
    )


def _difference_added(
    adapter: ModelAdapter, clean: CleanBatch, layer: int, difference: Float[Tensor, "ablated batch input d_model"]
) -> Float[Tensor, "ablated batch input d_model"]:
    """What changes in the stream when what attention makes changes by `difference`: a post-norm's scale changes with it."""
    block, out = adapter.blocks[layer], clean.attention_out[layer]
    if block.mixing is not None:
        difference = block.mixing.linear(difference)
    shape, scale = block.attention_post_shape, clean.attention_scale[layer]
    if shape is not None and scale is not None and out is not None:
        before = out.to(difference.dtype)
        changed = before + difference
        difference = shape.linear(changed) / shape.scale(changed)[..., None] - shape.linear(before) / scale[..., None]
    return times(difference, block.attention_addition.times)


def _run_above(
    adapter: ModelAdapter,
    clean: CleanBatch,
    stream: Float[Tensor, "ablated batch input d_model"],
    layer: int,
    observers: Sequence[Observer],
) -> tuple[
    Float[Tensor, "ablated batch input d_model"], Float[Tensor, "ablated batch pos"], Float[Tensor, "ablated batch pos"]
]:
    """Run what sees the ablation; the final stream, and the summed changes of attention's and MLPs' DLA."""
    here, home = clean.measured, adapter.device
    attention_change = torch.zeros_like(stream[:, :, here, 0], device=home)
    mlp_change = torch.zeros_like(attention_change)
    flat = stream.flatten(0, 1)
    calls = clean.calls.copies(len(stream))

    def add(out: Tensor, clean_dla: Tensor, total_change: Tensor, addition: Addition, reach: Factor) -> Tensor:
        out = out.unflatten(0, stream.shape[:2])
        directions = clean.directions_on[out.device]
        change = project(out[:, :, here], times(directions, reach)).to(home) - clean_dla
        total_change += change
        addition.keep_(stream)
        stream.add_(out)
        return change

    def add_attention(above: int, attention: Tensor) -> None:
        block = adapter.blocks[above]
        add(attention, clean.attention_dla[above], attention_change, block.attention_addition, block.attention_reach)

    def by_ablation(values: Tensor) -> Tensor:
        here_alone: Tensor = values.unflatten(0, stream.shape[:2])[:, :, here]
        return here_alone

    def rescaled(before: Tensor | None, after: Tensor | None) -> Tensor | None:
        return None if before is None or after is None else before[:, here] / by_ablation(after)

    def run_attention(above: int) -> Tensor:
        attention = attend(adapter, above, flat, calls)
        if observers:
            ratio = rescaled(clean.attention_scale[above], attention.scale)
            for observer in observers:
                observer.on_attention(above, by_ablation(seen_at(adapter, above, attention.z)), ratio)
        return attention.added

    def run_mlp(above: int) -> MLPOutput:
        kept = {"keep_activations": above in clean.activations, "keep_routing": above in clean.experts}
        return apply_mlp(adapter, above, flat, calls, **kept)

    def add_mlp(above: int, mlp: MLPOutput) -> None:
        block = adapter.blocks[above]
        change = add(mlp.added, clean.mlp_dla[above], mlp_change, block.mlp_addition, block.mlp_reach)
        further, clean_dla = apply_branch(adapter, above, flat, calls), clean.further_dla[above]
        whole_change = change
        if block.branch is not None and further is not None and clean_dla is not None:
            whole_change = change + add(further, clean_dla, mlp_change, block.branch.addition, block.reach)
        if observers:
            activations = None if mlp.activations is None else by_ablation(mlp.activations)
            routed = None if mlp.routed is None else mlp.routed.at(by_ablation)
            ratio = rescaled(clean.mlp_scale[above], mlp.scale)
            for observer in observers:
                observer.on_mlp(above, whole_change, activations, ratio)
                if routed is not None:
                    observer.on_experts(above, change, routed, ratio)

    if not adapter.parallel_blocks:
        add_mlp(layer, run_mlp(layer))
    for above in range(layer + 1, adapter.n_layers):
        stream = stream.to(adapter.blocks[above].device)
        flat = stream.flatten(0, 1)
        attention = run_attention(above)
        if adapter.parallel_blocks:
            mlp = run_mlp(above)
            add_attention(above, attention)
        else:
            add_attention(above, attention)
            mlp = run_mlp(above)
        add_mlp(above, mlp)
    for observer in observers:
        observer.on_final_stream(stream[:, :, here].to(home))
    return stream, attention_change, mlp_change


def identity_error(effects: Float[Tensor, "*row effect"]) -> Float[Tensor, "*row"]:
    """|R - (repair by LayerNorm + attention + MLP + post-norm)| in logits: zero but for rounding, since R is measured
    separately.
    """
    direct, ablated_direct, logit_change, layernorm, attention, mlp, post_norm, _ = effects.unbind(-1)
    return (logit_change - (ablated_direct - direct) - (layernorm + attention + mlp + post_norm)).abs()
