"""Heads ablated in both the clean and the ablated forward, by hooks on the attention output projections."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation, Replacements
from selfrepair.ingest.models.adapter import ModelAdapter


@contextmanager
def co_ablated(
    adapter: ModelAdapter, head_ablations: Sequence[HeadAblation], replacements: Replacements
) -> Iterator[None]:
    """Within it, every forward runs with these heads ablated.

    The batch of a forward is that of the replacements, or several copies of it, one after the other.
    """
    with ExitStack() as hooks:
        for layer in sorted({ablated.layer for ablated in head_ablations}):
            of_layer = [ablated for ablated in head_ablations if ablated.layer == layer]
            projection = adapter.blocks[layer].output_projection
            assert projection is not None, "those_with_heads lets no such layer through"
            hook = projection.register_forward_pre_hook(
                lambda _, arguments, of_layer=of_layer: (_replaced(adapter, arguments[0], of_layer, replacements),)
            )
            hooks.callback(hook.remove)
        yield


def _replaced(
    adapter: ModelAdapter, z: Tensor, head_ablations: Sequence[HeadAblation], replacements: Replacements
) -> Tensor:
    by_head = z.clone().unflatten(-1, (adapter.blocks[head_ablations[0].layer].n_heads, -1))
    for ablated in head_ablations:
        new = replacements.of(ablated)[..., : by_head.shape[-1]].to(z)
        head = by_head[:, :, ablated.head]
        by_head[:, :, ablated.head] = new if new.ndim == 1 else new.repeat(len(head) // len(new), 1, 1)
    replaced: Tensor = by_head.flatten(-2)
    return replaced
