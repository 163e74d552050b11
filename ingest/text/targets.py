"""What is asked of prompts: at every position for the next token, or at the end for an answer, above a foil or not."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Asked:
    """Prompts of one length; `targets` are asked for at their last positions, all but the last token or just the end.

    `inputs` are what is run: the prompts without the token that predicts nothing that is known. Where there are `foils`,
    every effect is on the target's logit minus the foil's.
    """

    inputs: Int[Tensor, "batch input"]
    targets: Int[Tensor, "batch pos"]
    foils: Int[Tensor, "batch pos"] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, prompts: slice) -> "Asked":
        foils = None if self.foils is None else self.foils[prompts]
        return Asked(self.inputs[prompts], self.targets[prompts], foils)

    @property
    def n_positions(self) -> int:
        """Measured positions of each prompt."""
        return self.targets.shape[1]

    @property
    def first_position(self) -> int:
        """The first one that is measured, from 0."""
        return self.inputs.shape[1] - self.n_positions

    def to(self, device: torch.device) -> "Asked":
        """The same on a device."""
        foils = None if self.foils is None else self.foils.to(device)
        return Asked(self.inputs.to(device), self.targets.to(device), foils)


def next_tokens(tokens: Int[Tensor, "batch seq"]) -> Asked:
    """Every token but the first is asked for, at the position before it."""
    return Asked(tokens[:, :-1], tokens[:, 1:])


def answers(tokens: Int[Tensor, "batch seq"], foils: Int[Tensor, " batch"] | None = None) -> Asked:
    """Only the last token is asked for, above the `foils` where they are given."""
    return Asked(tokens[:, :-1], tokens[:, -1:], None if foils is None else foils[:, None])
