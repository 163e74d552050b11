"""Sums in float64, also on devices that have none."""

import torch
from torch import Tensor


def float64_sum(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The sum over `dim` in float64, on the CPU."""
    if values.device.type == "mps":  # Apple GPUs know no float64
        values = values.cpu()
    return values.sum(dim=dim, dtype=torch.float64).cpu()
