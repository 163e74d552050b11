"""Which worker measures which unit."""

from collections.abc import Mapping


class Schedule:
    """Hands the units of a run to workers, one at a time, as they ask; those of a worker that is lost go to the next that asks.

    The largest come first: workers then end at about the same time. `rows_of` has the rows of each unit that is to do.
    """

    def __init__(self, rows_of: Mapping[int, int]) -> None:
        self._rows_of = rows_of
        self._waiting = sorted(rows_of, key=lambda unit: (-rows_of[unit], unit))
        self._held: dict[str, int] = {}

    @property
    def is_done(self) -> bool:
        """Whether every unit is finished."""
        return not self._waiting and not self._held

    @property
    def rows_left(self) -> int:
        """Rows of the units that are not finished."""
        return sum(self._rows_of[unit] for unit in (*self._waiting, *self._held.values()))

    def hand_out(self, worker: str) -> int | None:
        """The unit that `worker` is to measure now; None: nothing is left for it, unless another worker is lost."""
        assert worker not in self._held, f"{worker} has unit {self._held[worker]}"
        if not self._waiting:
            return None
        self._held[worker] = self._waiting.pop(0)
        return self._held[worker]

    def finish(self, worker: str) -> int:
        """The unit that `worker` had, which is finished."""
        return self._held.pop(worker)

    def lose(self, worker: str) -> int | None:
        """The unit that `worker` had, if any, which the next worker gets."""
        unit = self._held.pop(worker, None)
        if unit is not None:
            self._waiting.insert(0, unit)
        return unit
