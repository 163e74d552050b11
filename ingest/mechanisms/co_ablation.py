"""Heads that are ablated already before any other is: what is measured then is measured without them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor

from selfrepair.ingest.engine.ablation import Cell, Replacements
from selfrepair.ingest.models.adapter import Atlas


@contextmanager
def given_ablated(atlas: Atlas, cells: Sequence[Cell], replacements: Replacements) -> Iterator[None]:
    """While it lasts, every forward runs with the heads of `cells` ablated.

    The batch of a forward is the replacements' batch, or several of it one after the other.
    """
    with ExitStack() as hooks:
        for layer in sorted({cell.layer for cell in cells}):
            here = [cell for cell in cells if cell.layer == layer]
            hook = atlas.blocks[layer].output_projection.register_forward_pre_hook(
                lambda _, arguments, here=here: (_replaced(atlas, arguments[0], here, replacements),)
            )
            hooks.callback(hook.remove)
        yield


def _replaced(atlas: Atlas, z: Tensor, cells: Sequence[Cell], replacements: Replacements) -> Tensor:
    by_head = z.clone().unflatten(-1, (atlas.n_heads, atlas.d_head))
    for cell in cells:
        new = replacements.of(cell).to(z.dtype)
        head = by_head[:, :, cell.head]
        by_head[:, :, cell.head] = new if new.ndim == 1 else new.repeat(len(head) // len(new), 1, 1)
    replaced: Tensor = by_head.flatten(-2)
    return replaced
