"""Each head's top 2 % of rows: those with its highest clean direct effect, found before anything is ablated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from selfrepair.warehouse.schema import EFFECT_STEP

ROWS_TO_ONE = 50
"""One row in 50 is in the top: 2 %."""

_POSITION_BITS = 16
_CODE_BITS = 39
_MOST_STEPS = 2**23

Codes = NDArray[np.int64]
"""A row as one number that grows with its prompt and, within a prompt, with its position."""


@dataclass(frozen=True)
class TopRows:
    """The top rows of each head, as ascending `codes` [head, row] of the `heads` (layer, head)."""

    heads: Sequence[tuple[int, int]]
    codes: Codes

    def mask(self, head: tuple[int, int], prompt_ids: Sequence[int], n_positions: int) -> torch.Tensor:
        """Which positions of these prompts are in the head's top, [prompt, pos]."""
        codes = self.codes[self.heads.index(head)]
        found = torch.zeros(len(prompt_ids), n_positions, dtype=torch.bool)
        for number, prompt in enumerate(prompt_ids):
            first, last = np.searchsorted(codes, [prompt << _POSITION_BITS, (prompt + 1) << _POSITION_BITS])
            found[number, torch.from_numpy(codes[first:last] & (2**_POSITION_BITS - 1))] = True
        return found


class TopRowsSearch:
    """Each head's top 2 % of `n_rows` rows, by direct effect as it is stored, in whole steps of 1e-4.

    Of equal rows, those of the lower prompt come first, then those of the lower position. Memory stays within a few times
    the top rows.
    """

    def __init__(self, heads: Sequence[tuple[int, int]], n_rows: int) -> None:
        self._heads = list(heads)
        self._n_top = max(1, n_rows // ROWS_TO_ONE)
        self._best: NDArray[np.int64] = np.empty((len(heads), 0), dtype=np.int64)
        self._pending: list[NDArray[np.int64]] = []

    def add(self, prompt_ids: Sequence[int], effects: torch.Tensor) -> None:
        """The direct effects [head, prompt, pos] of some prompts, in logits."""
        n_positions = effects.shape[-1]
        codes = np.add.outer(np.array(prompt_ids, dtype=np.int64) << _POSITION_BITS, np.arange(n_positions)).ravel()
        steps = (effects.flatten(1).cpu().double() * float(round(1 / EFFECT_STEP))).round().numpy()
        steps = np.clip(steps, -_MOST_STEPS, _MOST_STEPS).astype(np.int64)
        self._pending.append((steps << _CODE_BITS) - codes)
        if sum(keys.shape[1] for keys in self._pending) > self._n_top:
            self._merge()

    def found(self) -> TopRows:
        """The rows found."""
        self._merge()
        codes = -self._best & (2**_CODE_BITS - 1)
        return TopRows(self._heads, np.sort(codes, axis=1))

    def _merge(self) -> None:
        keys = np.concatenate([self._best, *self._pending], axis=1)
        self._pending = []
        n_less = keys.shape[1] - self._n_top
        self._best = np.partition(keys, n_less, axis=1)[:, n_less:] if n_less > 0 else keys
