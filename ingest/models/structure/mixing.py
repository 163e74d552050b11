"""A convolution over positions between what attention makes and the residual stream: linear, and the same for every prompt."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_N_POSITIONS = 16
"""Positions of the sequences that a module is tried on, longer than any of its kernels."""


@dataclass(frozen=True)
class Mixing:
    """What the module makes at a position is, by dimension, the sum over taps of a weight times its input so many positions
    before.
    """

    module: nn.Module
    taps: Float[Tensor, "tap d_model"]

    def __call__(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        """What the module makes."""
        made: Tensor = self.module(x)
        return made.to(x.dtype)

    def linear(self, x: Float[Tensor, "*row pos d_model"]) -> Float[Tensor, "*row pos d_model"]:
        """The same in the precision of `x`."""
        shifted = (functional.pad(x, (0, 0, tap, 0))[..., : x.shape[-2], :] for tap in range(len(self.taps)))
        return torch.stack([one * tap for one, tap in zip(shifted, self.taps.to(x.dtype), strict=True)]).sum(dim=0)

    def seen(self, z: Float[Tensor, "*row pos head d_head"]) -> Float[Tensor, "*row pos head tapped"]:
        """What each position's output is made of: its own z, and those before it, tap by tap."""
        return torch.cat(
            [functional.pad(z, (0, 0, 0, 0, tap, 0))[..., : z.shape[-3], :, :] for tap in range(len(self.taps))], dim=-1
        )


@torch.no_grad()
def mixing_of(module: nn.Module, like: Float[Tensor, "batch pos d_model"]) -> Mixing | None:
    """The convolution that `module` is, proved on random sequences `like` its input; None where it is none."""
    drawn = torch.randn(1, _N_POSITIONS, like.shape[-1], generator=torch.Generator().manual_seed(0)).to(like)
    impulse = torch.zeros_like(drawn)
    impulse[:, 0] = 1
    try:
        response, made, of_zeros = module(impulse), module(drawn), module(torch.zeros_like(drawn))
    except (TypeError, AttributeError, ValueError, RuntimeError):  # it needs more than its input
        return None
    if not isinstance(response, Tensor) or response.shape != drawn.shape or bool(of_zeros.any()):
        return None
    n_taps = int(response[0].any(dim=-1).nonzero().max()) + 1 if bool(response.any()) else 0
    if not 1 < n_taps < _N_POSITIONS:
        return None
    mixing = Mixing(module, response[0, :n_taps].clone())
    taps = mixing.seen(drawn[:, :, None]).unflatten(-1, (n_taps, -1))[:, :, 0]
    error = (taps * mixing.taps).sum(dim=-2) - made
    tolerance = 64 * max(torch.finfo(like.dtype).eps, torch.finfo(torch.float32).eps)
    return mixing if bool(error.abs().max() <= tolerance * made.abs().max()) else None
