"""Each head's top 2 % of rows: those with its highest clean direct effect, found before anything is ablated."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from selfrepair.warehouse.schema import EFFECT_STEP

ROWS_TO_ONE = 50
"""One row in 50 is in the top: 2 %."""

_POSITION_BITS = 16
_CODE_BITS = 39
_MOST_STEPS = 2**23

Codes = NDArray[np.int64]
"""A row as one number that grows with its prompt and, within a prompt, with its measured position, counted from 0."""


def n_top(n_rows: int) -> int:
    """How many of a head's `n_rows` rows are its top, as in the view `top_cuts`: none of none."""
    return min(n_rows, max(1, n_rows // ROWS_TO_ONE))


@dataclass(frozen=True)
class TopRows:
    """The top rows of each of the `heads` (layer, head).

    `codes` has ascending codes [head, row] for each population: the top of all rows, and that of those after position 0, where
    it was searched for.
    """

    heads: Sequence[tuple[int, int]]
    codes: Sequence[Codes]

    def mask(
        self, head: tuple[int, int], prompt_ids: Sequence[int], n_positions: int
    ) -> Bool[Tensor, "population prompt pos"]:
        """Which measured positions of these prompts, whose numbers ascend, are in the head's tops."""
        number, prompts = self.heads.index(head), np.asarray(prompt_ids, dtype=np.int64)
        found = np.zeros((len(self.codes), len(prompts), n_positions), dtype=np.bool_)
        for mask, codes in zip(found, (of_heads[number] for of_heads in self.codes), strict=True):
            first, last = np.searchsorted(codes, [prompts[0] << _POSITION_BITS, (prompts[-1] + 1) << _POSITION_BITS])
            prompt, pos = codes[first:last] >> _POSITION_BITS, codes[first:last] & (2**_POSITION_BITS - 1)
            row = np.searchsorted(prompts, prompt)
            mine = prompts[row] == prompt
            mask[row[mine], pos[mine]] = True
        return torch.from_numpy(found)


class TopRowsSearch:
    """Each head's top 2 % of rows, by direct effect as it is stored, in whole steps of 1e-4.

    `n_rows` are the rows of each population that is searched: all, and those after position 0 where there is a second number.
    Of equal rows, those of the lower prompt come first, then those of the lower position. Memory stays within a few times
    the top rows.
    """

    def __init__(self, heads: Sequence[tuple[int, int]], *n_rows: int) -> None:
        self._heads = list(heads)
        # Where no row is at position 0, one search answers for both.
        self._searches = [_Search(len(heads), n_top(n)) for n in dict.fromkeys(n_rows)]
        self._n_populations = len(n_rows)

    def add(self, prompt_ids: Sequence[int], effects: Tensor, first_position: int = 0) -> None:
        """The direct effects [head, prompt, pos] of some prompts, in logits, from `first_position` on."""
        n_positions = effects.shape[-1]
        codes = np.add.outer(np.array(prompt_ids, dtype=np.int64) << _POSITION_BITS, np.arange(n_positions))
        steps = (effects.cpu().double() * float(round(1 / EFFECT_STEP))).round().numpy()
        steps = np.clip(steps, -_MOST_STEPS, _MOST_STEPS).astype(np.int64)
        keys = (steps << _CODE_BITS) - codes
        for search, start in zip(self._searches, (0, 1 if first_position == 0 else 0), strict=False):
            search.add(keys[:, :, start:].reshape(len(keys), -1))

    def found(self) -> TopRows:
        """The rows found."""
        codes = [search.found() for search in self._searches]
        return TopRows(self._heads, [*codes, *codes][: self._n_populations])


class _Search:
    """The `n_top` largest keys of each head."""

    def __init__(self, n_heads: int, n_top: int) -> None:
        self._n_top = n_top
        self._best: NDArray[np.int64] = np.empty((n_heads, 0), dtype=np.int64)
        self._pending: list[NDArray[np.int64]] = []

    def add(self, keys: NDArray[np.int64]) -> None:
        self._pending.append(keys)
        if sum(pending.shape[1] for pending in self._pending) > self._n_top:
            self._merge()

    def found(self) -> Codes:
        self._merge()
        return np.sort(-self._best & (2**_CODE_BITS - 1), axis=1)

    def _merge(self) -> None:
        keys = np.concatenate([self._best, *self._pending], axis=1)
        self._pending = []
        n_less = keys.shape[1] - self._n_top
        self._best = np.partition(keys, n_less, axis=1)[:, n_less:] if n_less > 0 else keys
