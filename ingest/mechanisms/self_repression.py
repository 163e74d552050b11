"""Self-repression: does a head repress or reinforce itself.

Its own output is added to the input of its layer, at one position at a time, and its direct effect there is measured again.
The controls are another head's output and a random direction, both scaled to the same length.
"""

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ingest.engine.clean_kv import CleanKVForward
from selfrepair.ingest.engine.forward import head_logit_directions
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.projection import project
from selfrepair.ingest.engine.unembedding import final_scale
from selfrepair.ingest.models.structure.additions import times

MULTIPLES = (1, 3, 5)
"""How many times the vector is added."""

SEQUENCES_PER_PROMPT = 3 * len(MULTIPLES)
"""Changed sequences of each prompt and head: one for every added vector and multiple."""

SEQUENCES_ABOVE = len(MULTIPLES)
"""Those of them that run through the layers above; of the controls, only attention of the head's own layer runs."""

Head = tuple[int, int]


@dataclass(frozen=True)
class SelfRepression:
    """Direct effects [logits] of some heads on some prompts, clean and after adding a vector; on the CPU.

    `other_heads` are the heads of the same layer whose output is the control, None where there is none. Vectors are
    `schema.ADDED_VECTORS`. `direct_effect_after` is at the clean scale of the final norm, NaN where there is no other head;
    `direct_effect_after_own_scale` is that of the head's own output at the changed forward's scale.
    """

    heads: Sequence[Head]
    other_heads: Sequence[int | None]
    direct_effect: Float[Tensor, "head prompt pos"]
    direct_effect_after: Float[Tensor, "vector multiple head prompt pos"]
    direct_effect_after_own_scale: Float[Tensor, "multiple head prompt pos"]


def join_self_repression(batches: Sequence[SelfRepression]) -> SelfRepression:
    """Batches of prompts of the same heads as one."""
    names = ("direct_effect", "direct_effect_after", "direct_effect_after_own_scale")
    effects = (torch.cat([getattr(batch, name) for batch in batches], dim=-2) for name in names)
    return SelfRepression(batches[0].heads, batches[0].other_heads, *effects)


def later_half(heads: Sequence[Head], n_layers: int) -> list[Head]:
    """The heads of the later half of the layers, which are measured."""
    return [head for head in heads if head[0] >= math.ceil(n_layers / 2)]


def other_head(head: Head, n_heads: int, seed: int, co_ablated: Sequence[Head] = ()) -> int | None:
    """The head of the same layer whose output is the control: random by `seed`, not the head itself and not co-ablated.

    None where there is no such head.
    """
    layer, own = head
    others = [number for number in range(n_heads) if number != own and (layer, number) not in co_ablated]
    return random.Random(f"{seed} {head}").choice(others) if others else None


def random_vectors(like: Float[Tensor, "pos d_model"], prompt_ids: Sequence[int], seed: int) -> Tensor:
    """A random direction for every position of the prompts, [prompt, pos, d_model]: the same in whatever batch."""
    return torch.stack([_random(like, f"{seed} {prompt}") for prompt in prompt_ids])


def measure_self_repression(
    forward: CleanKVForward,
    other_heads: Mapping[Head, int | None],
    logit_directions: Float[Tensor, "batch pos d_model"],
    value_biases: Float[Tensor, "layer head d_head"],
    drawn: Float[Tensor, "batch input d_model"],
    batch_size: int,
) -> SelfRepression:
    """Self-repression of the keys of `other_heads` on the prompts of `forward`, with the controls that they map to.

    `drawn` are the directions of the random control. As many heads of a layer run at once as `batch_size` sequences allow,
    at least one.
    """
    heads_at_once = max(1, batch_size // (SEQUENCES_ABOVE * len(logit_directions)))
    heads = sorted(other_heads)
    stacks = []
    for layer, of_layer in itertools.groupby(heads, key=lambda head: head[0]):
        numbers = [number for _, number in of_layer]
        for start in range(0, len(numbers), heads_at_once):
            some = {number: other_heads[layer, number] for number in numbers[start : start + heads_at_once]}
            stacks.append(_effects(forward, layer, some, logit_directions, value_biases[layer], drawn))
    before, after, own_scale = zip(*stacks, strict=True)
    return SelfRepression(
        heads,
        [other_heads[head] for head in heads],
        torch.cat(before).cpu(),
        torch.cat(after, dim=2).cpu(),
        torch.cat(own_scale, dim=1).cpu(),
    )


def _effects(
    forward: CleanKVForward,
    layer: int,
    other_heads: dict[int, int | None],
    logit_directions: Tensor,
    value_bias: Float[Tensor, "head d_head"],
    drawn: Float[Tensor, "batch input d_model"],
) -> tuple[
    Float[Tensor, "head batch pos"],
    Float[Tensor, "vector multiple head batch pos"],
    Float[Tensor, "multiple head batch pos"],
]:
    """The direct effects of `SelfRepression` for some heads of one layer, each with its other head."""
    adapter, numbers = forward.adapter, list(other_heads)
    here = slice(-logit_directions.shape[1], None)
    scale, home = final_scale(adapter, forward.final_stream[:, here]), adapter.device
    logit_directions, drawn = (of.to(adapter.blocks[layer].device) for of in (logit_directions, drawn))
    of_norm = forward.attention_scale[layer]
    head_directions = head_logit_directions(
        adapter, layer, logit_directions, None if of_norm is None else of_norm[:, here]
    )[:, :, numbers].movedim(2, 0)
    bias = value_bias[:, : adapter.blocks[layer].d_head].to(logit_directions)

    def effects(z: Float[Tensor, "*stack head batch pos d_head"]) -> Float[Tensor, "*stack head batch pos"]:
        own = z[..., here, :].to(logit_directions.dtype) - bias[numbers][:, None, None]
        return project(own, head_directions).to(home) / scale

    before = effects(forward.z[layer][:, :, numbers].movedim(2, 0))
    added = torch.stack(
        [
            torch.stack(list(_added_vectors(forward, (layer, head), other, bias, drawn)))
            for head, other in other_heads.items()
        ],
        dim=1,
    )
    changed = forward.resid_pre[layer] + torch.stack([multiple * added for multiple in MULTIPLES], dim=1)
    own, controls = changed[0], changed[1:]
    own_flat = own.flatten(0, 2)
    running = forward.of_copies(own.shape[:2].numel())
    out, z = running.attend(layer, own_flat)
    z_own = torch.stack([z.unflatten(0, own.shape[:3])[:, at, ..., head, :] for at, head in enumerate(numbers)], dim=1)
    heads_of_controls = numbers * (len(controls) * len(MULTIPLES))
    controlled = forward.of_copies(len(heads_of_controls))
    z_controls = controlled.z_of_heads(layer, controls.flatten(0, 3), heads_of_controls)
    z_controls = z_controls.unflatten(0, controls.shape[:4])
    after = effects(torch.cat([z_own[None], z_controls]))

    stream = running.after_attention(layer, own_flat, out)
    for above in range(layer + 1, adapter.n_layers):
        stream = stream.to(adapter.blocks[above].device)
        stream = running.after_attention(above, stream, running.attend(above, stream)[0])
    own_scale = final_scale(adapter, stream[:, here].to(home)).unflatten(0, own.shape[:3])
    return before, after, after[0] * scale / own_scale


def _added_vectors(
    forward: CleanKVForward, head: Head, other: int | None, bias: Tensor, drawn: Float[Tensor, "batch pos d_model"]
) -> Iterator[Float[Tensor, "batch pos d_model"]]:
    """The vectors of `schema.ADDED_VECTORS`, in that order: the head's own output, then both controls at its length.

    Another head whose output is zero somewhere adds nothing there.
    """
    own = _output(forward, head, bias)
    length = torch.linalg.vector_norm(own, dim=-1, keepdim=True)

    def scaled(direction: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        return direction * torch.where(norm > 0, length / norm, 0)

    yield own
    yield torch.full_like(own, torch.nan) if other is None else scaled(_output(forward, (head[0], other), bias))
    yield scaled(drawn)


def _output(forward: CleanKVForward, head: Head, bias: Tensor) -> Float[Tensor, "batch pos d_model"]:
    """What a head adds to the stream, without the constant part that is due to the value bias; at the clean scale of a
    post-norm.
    """
    layer, number = head
    z = forward.z[layer][:, :, number].to(bias.dtype) - bias[number]
    with full_precision():
        output: Tensor = z @ forward.adapter.head_output_weight(layer)[number].to(bias.dtype)
    block, scale = forward.adapter.blocks[layer], forward.attention_scale[layer]
    if block.attention_post_shape is not None and scale is not None:
        output = block.attention_post_shape.linear(output) / scale[..., None]
    return times(output, block.attention_addition.times)


def _random(like: Tensor, seed: str) -> Tensor:
    generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(63))
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)
