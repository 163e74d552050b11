"""The factors that a configuration can have."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

_NEAR = 1e-2
"""How near, at most, a number must come to one of the block's own."""


class Numbers:
    """The factors that a configuration can have: a measured one is rounding away from one of them."""

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        values = [
            float(value)
            for value in config.to_dict().values()
            if isinstance(value, int | float) and not isinstance(value, bool) and value and math.isfinite(value)
        ]
        n_layers = float(getattr(config, "num_hidden_layers", 1) or 1)
        self._known = [
            *(1.0, *values, *(1 / value for value in values)),
            *(value / math.sqrt(n_layers) for value in values),
            *(a / b for a in values for b in values),
        ]
        parts = range(2, 2 * int(n_layers) + 3)  # factors by depth
        self._of_depth = [*(1 / math.sqrt(n) for n in parts), *(math.sqrt((n - 1) / n) for n in parts)]
        dtype = model.get_output_embeddings().weight.dtype  # as it computes, in whatever type it is stored
        self.tolerance = 64 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)

    def factor(self, part: Tensor, whole: Tensor, size: float) -> float | None:
        """The number that `part` was multiplied by to give `whole`, which is as exact as numbers of `size` are; None where
        there is none.
        """
        own, wanted = part.double(), whole.double().to(part.device)
        measured = float((own * wanted).sum() / own.square().sum().clamp_min(1e-300))
        allowed = self.tolerance * max(size, float(wanted.abs().max()))
        for value in sorted(self._known, key=lambda value: (value != 1.0, abs(value - measured)))[:2]:
            if bool((value * own - wanted).abs().max() <= allowed):
                return value
        return measured if bool((measured * own - wanted).abs().max() <= allowed) else None

    def nearest(self, measured: float, own: Sequence[float] = ()) -> float:
        """The factor that a number measured to rounding is meant to be, `own` ones of a block among them; itself where none
        is near.
        """
        found = min(own or (math.inf,), key=lambda value: abs(value - measured))
        if not abs(found - measured) <= min(self.tolerance, _NEAR) * abs(measured):
            found = min((*self._known, *self._of_depth), key=lambda value: abs(value - measured))
        return found if abs(found - measured) <= self.tolerance * max(1.0, abs(measured)) else measured
