"""The parts of a decoder by role."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from selfrepair.ingest.models.structure.additions import Addition
from selfrepair.ingest.models.structure.calls import RESIDUAL, adds_stream
from selfrepair.ingest.models.structure.mixing import Mixing

Projection = nn.Linear | Conv1D


class NotFiniteError(Exception):
    """A model whose logits are NaN or infinite."""


class OtherShapeError(Exception):
    """A model of another shape than the measurement covers; the message says what stands in the way."""


class Nothing(nn.Module):
    """What stands in the place of a part that a block does not have."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros."""
        return torch.zeros_like(x)


@dataclass(frozen=True)
class Branch:
    """What a block adds to the stream after its MLP: what `modules`, one after the other, make of that stream. The input of
    `gated` of them is multiplied by the block's argument `argument`, which differs from prompt to prompt.
    """

    modules: tuple[nn.Module, ...]
    gated: int | None
    argument: str | None
    addition: Addition

    def made(self, stream: Tensor, gate: Tensor | None) -> Tensor:
        """What the modules make of the stream."""
        x = stream
        for number, module in enumerate(self.modules):
            x = module(x * gate if number == self.gated and gate is not None else x)
        return x


@dataclass(frozen=True)
class Beside:
    """What mixes positions beside attention, on the same input (a recurrence); `addition` says how it joins the stream."""

    module: nn.Module
    addition: Addition


class HandingMLP:
    """An MLP that is given what the one before it `handed` on, and hands on something itself, beside what it makes."""

    def __init__(self, *modules: nn.Module) -> None:
        if len(modules) != 1:
            raise OtherShapeError("its layers hand on more than the residual stream")
        self._module = modules[0]
        self.handed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """What the MLP makes; `handed` is replaced by what it hands on."""
        out: tuple[Tensor, Tensor] = self._module(x, self.handed)
        made, self.handed = out
        return made.view_as(x)

    def alone(self, x: Tensor) -> Tensor:
        """What the MLP makes where nothing was handed to it."""
        self.handed = None
        return self(x)


def joined(modules: tuple[nn.Module, ...], *, is_chain: bool) -> Callable[[Tensor], Tensor]:
    """What the MLP makes of its input: of one module, of several in a row, or of several side by side."""

    def made_by(module: nn.Module, x: Tensor) -> Tensor:
        # Families such as Bloom let the MLP add the stream itself: given zeros, it returns what it adds.
        out = module(x, **{RESIDUAL: torch.zeros_like(x)}) if adds_stream(module) else module(x)
        made: Tensor = out[0] if isinstance(out, tuple) else out  # experts also return which of them were chosen
        return made.view_as(x) if made.ndim < x.ndim else made  # experts may see all positions as one row of tokens

    if len(modules) == 1:
        (module,) = modules
        return lambda x: made_by(module, x)
    if is_chain:
        return nn.Sequential(*modules)
    return lambda x: torch.stack([made_by(module, x) for module in modules]).sum(dim=0)


@dataclass(frozen=True)
class BlockParts:
    """The modules of one block; norms are None where there is none. Of several `mlp` modules, each reads what the one before
    it made (`is_chain`) or all read the same, and what they make is added up.

    Additions say how each part joins the stream; attention reads what its norm makes times `attention_factor`. A block without
    softmax heads has in the place of attention what mixes positions there (a convolution, a recurrence), and no
    `output_projection`. Of MLPs that `hands_on`, each is also given what that of the layer before made besides. A
    `mixing` stands between attention and the stream.
    """

    module: nn.Module
    ln1: nn.Module | None
    attention: nn.Module
    output_projection: Projection | None
    attention_post_norm: nn.Module | None
    ln2: nn.Module | None
    mlp: tuple[nn.Module, ...]
    is_chain: bool
    mlp_output: Projection | None
    mlp_post_norm: nn.Module | None
    attention_addition: Addition
    mlp_addition: Addition
    is_parallel: bool
    attention_factor: float = 1.0
    beside: tuple[Beside, ...] = ()
    branch: Branch | None = None
    hands_on: bool = False
    mixing: Mixing | None = None


@dataclass(frozen=True)
class DecoderParts:
    """The modules of a decoder; logits are `logit_scale` times what the unembedding makes of the final norm's output, and
    `logit_softcap` bends them.
    """

    blocks: tuple[BlockParts, ...]
    final_norm: nn.Module
    unembedding: nn.Linear
    logit_scale: float
    logit_softcap: float | None
