"""Does a head repress or reinforce itself? Its own output is added to the input of its layer, at one position at a time, and
its direct effect there is read again; another head's output and a random direction, of the same length, are the controls.
"""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ingest.engine.clean import read_along, read_out
from selfrepair.ingest.engine.clean_kv import PinnedForward
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.unembedding import final_scale

MULTIPLES = (1, 3, 5)
"""How many times the output is added."""

STACKED = 3 * len(MULTIPLES)
"""Changed sequences of each prompt: every kind and multiple."""

RUN_UP = len(MULTIPLES)
"""Those of them that run through the layers above; of the controls only attention of the head's own layer runs."""

Head = tuple[int, int]


@dataclass(frozen=True)
class SelfRepression:
    """The direct effects [logits] of some heads on some prompts, on the CPU.

    `others` are the heads of the same layer whose output is the control, None where there is none. `clean` is read with
    nothing added, `fed` with it, at the clean scale; kinds are `schema.ADDED_VECTORS`, NaN where there is no other head.
    `fed_own_scale` is that of the head's own output at the scale of the changed forward's final norm.
    """

    heads: Sequence[Head]
    others: Sequence[int | None]
    clean: Float[Tensor, "head prompt pos"]
    fed: Float[Tensor, "kind multiple head prompt pos"]
    fed_own_scale: Float[Tensor, "multiple head prompt pos"]


def joined_self_repression(pieces: Sequence[SelfRepression]) -> SelfRepression:
    """Batches of the same heads as one."""
    by_prompt = (
        torch.cat([getattr(piece, name) for piece in pieces], dim=-2) for name in ("clean", "fed", "fed_own_scale")
    )
    return SelfRepression(pieces[0].heads, pieces[0].others, *by_prompt)


def fed_heads(heads: Sequence[Head], n_layers: int) -> list[Head]:
    """Those of the later half of the layers, which are measured."""
    return [head for head in heads if head[0] >= math.ceil(n_layers / 2)]


def other_head(head: Head, n_heads: int, seed: int, gone: Sequence[Head] = ()) -> int | None:
    """The head of the same layer whose output is the control: seeded, neither the head itself nor one of those that are
    `gone`; None where there is none.
    """
    layer, own = head
    others = [number for number in range(n_heads) if number != own and (layer, number) not in gone]
    return random.Random(f"{seed} {head}").choice(others) if others else None


def measure_self_repression(
    forward: PinnedForward,
    heads: Sequence[Head],
    directions: Float[Tensor, "batch pos d_model"],
    value_biases: Float[Tensor, "layer head d_head"],
    prompt_ids: Sequence[int],
    *,
    seed: int,
    batch_size: int,
    gone: Sequence[Head] = (),
) -> SelfRepression:
    """Every head of `heads` on the prompts of `forward`, whose targets' directions are `directions`; the heads that are
    `gone` are nobody's control.

    As many heads of a layer run at once as `batch_size` sequences allow, one at least.
    """
    drawn = torch.stack([_random(forward.final[0], f"{seed} {prompt}") for prompt in prompt_ids])
    heads_at_once = max(1, batch_size // (RUN_UP * len(directions)))
    others = {head: other_head(head, forward.atlas.n_heads, seed, gone) for head in sorted(heads)}
    pieces = []
    for layer, of_layer in itertools.groupby(others, key=lambda head: head[0]):
        numbers = [number for _, number in of_layer]
        for start in range(0, len(numbers), heads_at_once):
            some = {number: others[layer, number] for number in numbers[start : start + heads_at_once]}
            pieces.append(_feed(forward, layer, some, directions, value_biases[layer], drawn))
    clean, fed, own_scale = zip(*pieces, strict=True)
    return SelfRepression(
        list(others),
        list(others.values()),
        torch.cat(clean).cpu(),
        torch.cat(fed, dim=2).cpu(),
        torch.cat(own_scale, dim=1).cpu(),
    )


def _feed(
    forward: PinnedForward,
    layer: int,
    others: dict[int, int | None],
    directions: Tensor,
    value_bias: Float[Tensor, "head d_head"],
    drawn: Float[Tensor, "batch input d_model"],
) -> tuple[
    Float[Tensor, "head batch pos"],
    Float[Tensor, "kind multiple head batch pos"],
    Float[Tensor, "multiple head batch pos"],
]:
    """`SelfRepression`'s numbers of some heads of one layer, each with its other head."""
    atlas, numbers = forward.atlas, list(others)
    here = slice(-directions.shape[1], None)
    scale = final_scale(atlas, forward.final[:, here])
    reads = read_out(atlas, layer, directions)[:, :, numbers].movedim(2, 0)
    bias = value_bias.to(directions.dtype)

    def effects(z: Float[Tensor, "*stack head batch pos d_head"]) -> Float[Tensor, "*stack head batch pos"]:
        own = z[..., here, :].to(directions.dtype) - bias[numbers][:, None, None]
        return read_along(own, reads) / scale

    clean = effects(forward.z[layer][:, :, numbers].movedim(2, 0))
    added = torch.stack(
        [torch.stack(list(_additions(forward, (layer, head), other, bias, drawn))) for head, other in others.items()],
        dim=1,
    )
    changed = forward.entering[layer] + torch.stack([multiple * added for multiple in MULTIPLES], dim=1)
    own, controls = changed[0], changed[1:]
    run_up = own.flatten(0, 2)
    out, z = forward.attend(layer, run_up)
    of_own = torch.stack([z.unflatten(0, own.shape[:3])[:, at, ..., head, :] for at, head in enumerate(numbers)], dim=1)
    counting = numbers * (len(controls) * len(MULTIPLES))
    of_controls = forward.attend_alone(layer, controls.flatten(0, 3), counting).unflatten(0, controls.shape[:4])
    fed = effects(torch.cat([of_own[None], of_controls]))

    stream = forward.after_attention(layer, run_up, out)
    for above in range(layer + 1, atlas.n_layers):
        stream = forward.after_attention(above, stream, forward.attend(above, stream)[0])
    return clean, fed, fed[0] * scale / final_scale(atlas, stream[:, here]).unflatten(0, own.shape[:3])


def _additions(
    forward: PinnedForward, head: Head, other: int | None, bias: Tensor, drawn: Float[Tensor, "batch pos d_model"]
) -> Iterator[Float[Tensor, "batch pos d_model"]]:
    """What is added once, in the order of `schema.ADDED_VECTORS`: the head's own output, and both controls as long as that;
    the random one in the direction of `drawn`. An other head that writes nothing somewhere adds nothing there.
    """
    own = _output(forward, head, bias)
    length = torch.linalg.vector_norm(own, dim=-1, keepdim=True)

    def as_long(direction: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
        return direction * torch.where(norm > 0, length / norm, 0)

    yield own
    yield torch.full_like(own, torch.nan) if other is None else as_long(_output(forward, (head[0], other), bias))
    yield as_long(drawn)


def _output(forward: PinnedForward, head: Head, bias: Tensor) -> Float[Tensor, "batch pos d_model"]:
    """What a head adds to the stream, without the constant part that is the value bias's."""
    layer, number = head
    z = forward.z[layer][:, :, number].to(bias.dtype) - bias[number]
    with full_precision():
        output: Tensor = z @ forward.atlas.head_output_weight(layer)[number].to(bias.dtype)
    return output


def _random(like: Tensor, seed: str) -> Tensor:
    generator = torch.Generator().manual_seed(random.Random(seed).getrandbits(63))
    return torch.randn(like.shape, generator=generator, dtype=torch.float32).to(like)
