"""Directions in the residual stream, and what vectors there add along them."""

import torch
from jaxtyping import Float
from torch import Tensor

from selfrepair.ingest.models.structure.additions import Factor, times
from selfrepair.ingest.models.structure.norms import NormShape


def project(
    vectors: Float[Tensor, "*stack batch pos d"], directions: Float[Tensor, "*batch pos d"]
) -> Float[Tensor, "*stack batch pos"]:
    """Dot product with each position's direction, in the stream's precision."""
    products: Tensor = torch.linalg.vecdot(vectors.to(directions.dtype), directions)
    return products


def through_norm(
    directions: Float[Tensor, "*row d_model"],
    shape: NormShape | None,
    scale: Float[Tensor, "*row"] | None,
    multiplier: Factor,
) -> Float[Tensor, "*row d_model"]:
    """The directions in what a part makes that are `directions` in what it adds to the stream, at a fixed scale of its
    post-norm.
    """
    if isinstance(multiplier, Tensor):  # it acts on what the norm makes
        directions, multiplier = directions * multiplier, 1.0
    if shape is not None and scale is not None:
        directions = shape.direction(directions) / scale[..., None]
    return times(directions, multiplier)
