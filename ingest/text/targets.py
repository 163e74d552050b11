"""Which tokens the measured positions of a batch must predict: the next token everywhere, or one answer at the end."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class PredictionTargets:
    """Prompts of one length, and the target token `ids` of their last positions: of every position, or the last one alone.

    `inputs` are the tokens that the model runs: a prompt without its last token, which is only a target. With `foils`,
    every effect is on the target's logit minus the foil's.
    """

    inputs: Int[Tensor, "batch input"]
    ids: Int[Tensor, "batch pos"]
    foils: Int[Tensor, "batch pos"] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, prompts: slice) -> "PredictionTargets":
        foils = None if self.foils is None else self.foils[prompts]
        return PredictionTargets(self.inputs[prompts], self.ids[prompts], foils)

    @property
    def n_positions(self) -> int:
        """Measured positions of each prompt."""
        return self.ids.shape[1]

    @property
    def first_position(self) -> int:
        """The first measured position, from 0."""
        return self.inputs.shape[1] - self.n_positions

    def to(self, device: torch.device) -> "PredictionTargets":
        """The same on a device."""
        foils = None if self.foils is None else self.foils.to(device)
        return PredictionTargets(self.inputs.to(device), self.ids.to(device), foils)


def next_token_targets(tokens: Int[Tensor, "batch seq"]) -> PredictionTargets:
    """Every token but the first is the target of the position before it."""
    return PredictionTargets(tokens[:, :-1], tokens[:, 1:])


def answer_targets(tokens: Int[Tensor, "batch seq"], foils: Int[Tensor, " batch"] | None = None) -> PredictionTargets:
    """The last token alone is a target; its logit is measured relative to the `foils` where they are given."""
    return PredictionTargets(tokens[:, :-1], tokens[:, -1:], None if foils is None else foils[:, None])
