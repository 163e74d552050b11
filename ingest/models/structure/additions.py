"""How a part of a layer joins the residual stream: what is left of the stream there, and what the part is multiplied by."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfrepair.ingest.models.structure.numbers import Numbers

Factor: TypeAlias = float | Tensor
"""A number, or one for each dimension of the stream."""

_COARSE = 1e-3
"""Tolerance of half precision, in which a factor of 1 may seem to do where another one is meant."""

_NOTHING = 1e-3
"""A factor of the stream below which it is not the stream that a part is added to."""

_NEAR = 1e-2
"""How near a fitted vector must come to one of the block's own to be tried as that."""


def times(x: Float[Tensor, "*row d_model"], factor: Factor) -> Float[Tensor, "*row d_model"]:
    """X times a factor; x itself where that is 1."""
    return x if isinstance(factor, float) and factor == 1 else x * factor


def product(one: Factor, other: Factor) -> Factor:
    """Of two factors."""
    return (
        times(other, one)
        if isinstance(other, Tensor)
        else times(one, other)
        if isinstance(one, Tensor)
        else one * other
    )


@dataclass(frozen=True)
class Addition:
    """The stream becomes keep * stream + times * part + offset. The offset is a constant, None where it is 0."""

    keep: Factor = 1.0
    times: Factor = 1.0
    offset: Float[Tensor, " d_model"] | None = None

    def added(self, part: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """What is added to what is kept of the stream."""
        scaled = times(part, self.times)
        return scaled if self.offset is None else scaled + self.offset

    @property
    def is_plain(self) -> bool:
        """Whether the part is added as it is."""
        return not self.multiplies_stream and isinstance(self.times, float) and self.times == 1 and self.offset is None

    @property
    def multiplies_stream(self) -> bool:
        """Whether something else than all of the stream is kept."""
        return not (isinstance(self.keep, float) and self.keep == 1)

    def keep_(self, stream: Float[Tensor, "*row d_model"]) -> None:
        """Multiply the stream by what is kept of it, in place."""
        if self.multiplies_stream:
            stream.mul_(self.keep)


def additions(
    before: Tensor, parts: Sequence[Tensor], after: Tensor, size: float, numbers: Numbers, block: nn.Module
) -> tuple[Addition, ...] | None:
    """How `parts` and the stream `before` make the stream `after`, one for each part; None where they do not.

    The first has what is kept and the offset. Values are as exact as numbers of `size` are. Factors that the block or its
    configuration has are taken from there.
    """
    factor = numbers.factor(parts[0].reshape(before.shape), after - before, size) if len(parts) == 1 else None
    if factor is not None and numbers.tolerance < _COARSE:
        return (Addition(times=factor),)
    rows = [part.reshape(-1, before.shape[-1]).double().cpu() for part in (before, *parts)]
    wanted = after.reshape(rows[0].shape).double().cpu()
    allowed = numbers.tolerance * max(size, float(wanted.abs().max()))
    known = list(_vectors(block, before.shape[-1]))
    own = [float(value) for value in _numbers(block)]
    candidates: list[list[Factor]] = [] if factor is None else [[1.0, factor]]
    candidates += [_scalars(rows, wanted, numbers, own), *_by_dimension(rows, wanted, known)]
    best: tuple[float, list[Factor], Tensor | None] | None = None
    for found in candidates:
        if float(torch.as_tensor(found[0]).abs().max()) <= _NOTHING:
            continue  # what is kept of the stream may not be nothing
        rest = wanted - torch.stack([value * row for value, row in zip(found, rows, strict=True)]).sum(dim=0)
        offset = rest.mean(dim=0)
        error = float((rest - offset).abs().max())
        # In half precision several may do: those of fewer numbers come first, unless another is much nearer.
        if error <= allowed and (best is None or (numbers.tolerance >= _COARSE and error < best[0] / 4)):
            best = error, found, _nearest(offset, known) if bool(offset.abs().max() > allowed) else None
    if best is None:
        return None
    _, found, place = best
    # Copies, so that a factor that is changed later is noticed.
    keep, *factors = (value if isinstance(value, float) else value.to(before, copy=True) for value in found)
    first = Addition(keep, factors[0], None if place is None else place.to(before, copy=True))
    return (first, *(Addition(times=one) for one in factors[1:]))


def _scalars(rows: Sequence[Tensor], wanted: Tensor, numbers: Numbers, own: Sequence[float]) -> list[Factor]:
    terms = torch.stack([(row - row.mean(dim=0)).flatten() for row in rows], dim=-1)
    fitted = torch.linalg.lstsq(terms, (wanted - wanted.mean(dim=0)).flatten()[:, None]).solution[:, 0]
    return [numbers.nearest(float(value), own) for value in fitted]


def _by_dimension(rows: Sequence[Tensor], wanted: Tensor, known: Sequence[Tensor]) -> Iterator[list[Factor]]:
    """A factor for every dimension: as vectors of the block's own, and as they were fitted."""
    terms = torch.stack([row - row.mean(dim=0) for row in rows], dim=-1).transpose(0, 1)
    if terms.shape[1] <= len(rows) + 1:
        return
    fitted = torch.linalg.lstsq(terms, (wanted - wanted.mean(dim=0)).T[..., None]).solution[..., 0]
    vectors = list(fitted.unbind(dim=-1))
    ones = torch.ones_like(vectors[0])
    yield [_nearest(vector, [*known, ones]) for vector in vectors]
    yield [*vectors]


def _nearest(vector: Tensor, known: Sequence[Tensor]) -> Tensor:
    """The vector of the block's own that is meant, or the vector itself."""
    found = min(known, key=lambda one: float((one - vector).abs().max()), default=vector)
    return found if bool((found - vector).abs().max() <= _NEAR * vector.abs().max().clamp_min(1e-6)) else vector


def _vectors(block: nn.Module, width: int) -> Iterator[Tensor]:
    for tensor in (*block.parameters(), *block.buffers()):
        if tensor.shape == (width,) and tensor.is_floating_point():
            yield tensor.detach().double().cpu()


def _numbers(block: nn.Module) -> Iterator[Tensor]:
    for tensor in (*block.parameters(recurse=False), *block.buffers(recurse=False)):
        if tensor.numel() == 1 and tensor.is_floating_point():
            yield tensor.detach().double().cpu()
