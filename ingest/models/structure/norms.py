"""What a norm does to a vector, read off the module itself: its kind, its gain and its eps."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

LAYERNORM, RMSNORM = "layernorm", "rmsnorm"

_EPS_NAMES = ("eps", "variance_epsilon", "epsilon")
_N_TRIED = 8
"""Random vectors that a norm is tried on."""
_SMALL = 1e-6
"""Size of vectors so short that eps decides their scale."""


@dataclass(frozen=True)
class NormShape:
    """A norm as a formula: gain * centred(x) / S + bias, centred for LayerNorm alone, S = sqrt(mean(centred(x)^2) + eps).

    With S held fixed it is linear in x, but for its bias.
    """

    kind: str
    gain: Float[Tensor, " d_model"]
    eps: float

    def scale(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row"]:
        """S of every vector."""
        mean_square = x.var(dim=-1, correction=0) if self.kind == LAYERNORM else x.square().mean(dim=-1)
        return (mean_square + self.eps).sqrt()

    def direction(self, w: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """The direction whose dot product with x, over S, is the dot product of `w` with gain * centred(x) / S."""
        return self._centred(w * self.gain.to(w.dtype))

    def linear(self, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """Gain * centred(x): what the norm makes of x, but for the scale and the bias."""
        return self._centred(x) * self.gain.to(x.dtype)

    def _centred(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True) if self.kind == LAYERNORM else x


def norm_shape(module: nn.Module, width: int, dtype: torch.dtype, device: torch.device) -> NormShape | None:
    """The formula of `module`, proved on random vectors long and short; None where it is no such norm."""
    drawn = torch.randn(_N_TRIED, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # An offset of the mean tells the kinds apart.
    vectors = torch.cat([drawn + 0.5, _SMALL * drawn]).to(device, dtype)
    found = module(vectors).double()
    bias = module(torch.zeros_like(vectors[:1])).double()
    exact = vectors.double()
    # Many norms compute in float32 whatever they are given.
    tolerance = 32 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    for kind in (RMSNORM, LAYERNORM):
        for gain in _gains(module, width, device):
            for eps in _epsilons(module, exact, found - bias, NormShape(kind, gain, 0.0)):
                shape = NormShape(kind, gain, eps)
                error = found - bias - shape.linear(exact) / shape.scale(exact)[:, None]
                within = tolerance * found.abs().unflatten(0, (2, -1)).amax(dim=(1, 2))
                if bool((error.abs().unflatten(0, (2, -1)).amax(dim=(1, 2)) <= within).all()):
                    return shape
    return None


def _gains(module: nn.Module, width: int, device: torch.device) -> Iterator[Tensor]:
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.shape == (width,):
        yield weight.detach()
        yield 1 + weight.detach()
    else:
        yield torch.ones(width, device=device)


def _epsilons(module: nn.Module, x: Tensor, found: Tensor, shape: NormShape) -> Iterator[float]:
    """The module's own eps, or the one that its short vectors show."""
    yield from (float(getattr(module, name)) for name in _EPS_NAMES if isinstance(getattr(module, name, None), float))
    short, made = x[_N_TRIED:], found[_N_TRIED:]
    ratio = shape.linear(short).square().sum() / made.square().sum()  # S^2 where eps alone decides it
    yield float(f"{float(ratio - (shape.scale(short) ** 2).mean()):.3g}")
