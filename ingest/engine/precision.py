"""Sums and products in full precision, whatever the layers compute in."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def float64_sum(values: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The sum over `dim` in float64, on the CPU."""
    if values.device.type == "mps":  # Apple GPUs know no float64
        values = values.cpu()
    return values.sum(dim=dim, dtype=torch.float64).cpu()


@contextmanager
def full_precision() -> Iterator[None]:
    """Within it, float32 matrix products are float32 products: no TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
