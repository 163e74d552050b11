"""Checks of measured numbers: they are finite, and the identity R = LayerNorm + attention + MLP (+ post-norm) holds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from selfrepair.ingest.conventions import Precision, head_label
from selfrepair.ingest.engine.ablation import HeadAblation, identity_error
from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.warehouse.errors import SelfRepairError, with_dtype
from selfrepair.warehouse.schema import LARGE_EFFECT

NOT_STORED = "Nothing of this unit was stored."


def check_clean_forward(clean: CleanBatch, prompt_ids: Sequence[int]) -> None:
    """Raise SelfRepairError for a NaN or infinity in a clean forward, naming its prompt and first layer."""
    n_layers = len(clean.mlp_dla)
    bad = ~torch.stack([*clean.attention_dla, *clean.mlp_dla]).isfinite()
    if bool(bad.any()):
        order = bad.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        layer = min(index % n_layers for index in order)
        prompt = int((bad[layer] | bad[layer + n_layers]).any(dim=1).nonzero()[0])
        raise SelfRepairError(
            f"NaN or infinity in the clean forward of prompt_id {prompt_ids[prompt]}, first in layer {layer}. "
            f"{NOT_STORED} Try {with_dtype('float32')}, and check the model's weights."
        )


def check_effects(
    effects: Tensor, stack: Sequence[HeadAblation], prompt_ids: Sequence[int], precision: Precision
) -> None:
    """Raise SelfRepairError for a NaN or infinity in the effects of a stack, or an identity error above the precision's: an
    absolute one up to `LARGE_EFFECT`, and beyond that relative to the row's largest effect.
    """
    errors = identity_error(effects)
    allowed = precision.identity * (effects[..., :-1].abs().amax(dim=-1) / LARGE_EFFECT).clamp(min=1)
    if bool((errors <= allowed).all()):  # false for NaN too
        return
    for ablated, of_head, error, of_row in zip(stack, effects, errors, allowed, strict=True):
        bad_rows = ~of_head.isfinite().all(dim=-1)
        label = head_label(ablated.layer, ablated.head)
        if bool(bad_rows.any()):
            prompt, pos = bad_rows.nonzero()[0].tolist()
            raise SelfRepairError(
                f"NaN or infinity after {ablated.ablation} ablation of {label}, prompt_id {prompt_ids[prompt]}, "
                f"position {pos}. "
                f"{NOT_STORED} Try {with_dtype('float32')}, and check the model's weights."
            )
        if bool((error > of_row).any()):
            prompt, pos = divmod(int((error / of_row).argmax()), error.shape[1])
            raise SelfRepairError(
                f"the identity R = LayerNorm + attention + MLP (+ post-norm) fails by {float(error[prompt, pos]):.2g} logits "
                f"(allowed {float(of_row[prompt, pos]):g}) for {ablated.ablation} ablation of {label}, prompt_id "
                f"{prompt_ids[prompt]}, position {pos}. {NOT_STORED} Rerun with {with_dtype('float64')}: if that passes, "
                f"the cause was rounding in {precision.name}; if not, please report the model."
            )
