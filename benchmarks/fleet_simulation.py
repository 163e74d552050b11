"""How a run's units pass through many workers and one loader, on paper: `fleet` makes tables of it.

Workers never wait for the loader, since finished units lie in files until it takes them. So a run is simulated in two
steps: its units are measured (`measure`), and then loaded in the order in which they were finished (`load`).
"""

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

_NONE = -1


class Unit(NamedTuple):
    """A unit of `rows` measurements that takes a worker of speed 1 so many seconds, its part files included."""

    rows: int
    seconds: float


class Hazard(NamedTuple):
    """What ends a worker in the middle of a unit, so often an hour of measuring, such as a crash or a preemption.

    After `back_s` seconds another worker starts in its place; never where that is None.
    """

    per_hour: float
    back_s: float | None


class Span(NamedTuple):
    """What a worker did from `began` to `ended` [s since the start]: `lost` is a unit that it did not finish."""

    worker: int
    kind: Literal["starting", "measured", "lost", "away"]
    began: float
    ended: float
    unit: int = _NONE


def measure(
    units: Sequence[Unit],
    speeds: Sequence[float],
    *,
    start_s: float = 0.0,
    hazards: Sequence[Hazard] = (),
    rng: random.Random | None = None,
) -> list[Span]:
    """Hand out `units`, the largest first, to workers of these `speeds` as they ask, until each is measured once.

    A worker asks `start_s` seconds after it was started. The unit of one that ended is the next to be handed out. Raises
    ValueError where no worker is left.
    """
    rng = rng or random.Random(0)
    per_hour = sum(hazard.per_hour for hazard in hazards)
    waiting = deque(sorted(range(len(units)), key=lambda unit: (-units[unit].rows, unit)))
    ready: deque[int] = deque()
    spans: list[Span] = []
    # When a worker will ask for a unit, or end: then with the unit that is lost.
    events: list[tuple[float, int, int]] = []
    n_left = len(units)

    def start(worker: int, at: float) -> None:
        spans.append(Span(worker, "starting", at, at + start_s))
        heapq.heappush(events, (at + start_s, worker, _NONE))

    def hand_out(worker: int, unit: int, now: float) -> bool:
        """Whether it will be measured."""
        ends = now + units[unit].seconds / speeds[worker]
        dies = now + rng.expovariate(per_hour / 3600) if per_hour else ends
        if dies >= ends:
            spans.append(Span(worker, "measured", now, ends, unit))
            heapq.heappush(events, (ends, worker, _NONE))
            return True
        spans.append(Span(worker, "lost", now, dies, unit))
        heapq.heappush(events, (dies, worker, unit))
        (hazard,) = rng.choices(hazards, [one.per_hour for one in hazards])
        if hazard.back_s is not None:
            spans.append(Span(worker, "away", dies, dies + hazard.back_s))
            start(worker, dies + hazard.back_s)
        return False

    for worker in range(len(speeds)):
        start(worker, 0.0)
    while n_left:
        if not events:
            raise ValueError(f"no worker is left, and {n_left} units are")
        now, worker, lost = heapq.heappop(events)
        if lost == _NONE:
            ready.append(worker)
        else:
            waiting.appendleft(lost)
        while ready and waiting:
            n_left -= hand_out(ready.popleft(), waiting.popleft(), now)
    return spans


def finished(spans: Sequence[Span], units: Sequence[Unit]) -> list[tuple[float, int]]:
    """When each unit was finished, and its rows, in this order."""
    return sorted((span.ended, units[span.unit].rows) for span in spans if span.kind == "measured")


def shares(spans: Sequence[Span], n_workers: int) -> dict[str, float]:
    """The share of each kind of span, and of `idle`, in the time of all workers until the last unit is finished."""
    end = max(span.ended for span in spans if span.kind == "measured")
    spent = dict.fromkeys(("measured", "lost", "starting", "away"), 0.0)
    for span in spans:
        spent[span.kind] += min(span.ended, end) - min(span.began, end)
    found = {kind: seconds / (n_workers * end) for kind, seconds in spent.items()}
    return found | {"idle": max(0.0, 1 - sum(found.values()))}


@dataclass(frozen=True)
class Loader:
    """What a loader needs [s]: `call_s` each time that it opens the file, `unit_s` a unit, and its rows.

    It begins when `least_rows` are finished, or all, and takes all that are. `summaries_s` and `summaries_rows_per_s` are
    of the summaries, which are made anew over all rows; `merge_rows_per_s` of rows of one file appended to another;
    `commit_s` is of a commit to a lake, one writer after the other.
    """

    rows_per_s: float
    call_s: float = 0.0
    unit_s: float = 0.0
    least_rows: int = 1
    summaries_s: float = 0.0
    summaries_rows_per_s: float = float("inf")
    merge_rows_per_s: float = float("inf")
    commit_s: float = 0.0

    def seconds(self, units: int, rows: int) -> float:
        """How long it takes to load so many at once."""
        return self.call_s + units * self.unit_s + rows / self.rows_per_s

    def summarise(self, rows: int) -> float:
        """How long the summaries of so many rows take."""
        return self.summaries_s + rows / self.summaries_rows_per_s


class Call(NamedTuple):
    """One load: from `began` to `ended` [s since the start]."""

    began: float
    ended: float
    units: int
    rows: int


def load(arrivals: Sequence[tuple[float, int]], loader: Loader, *, summaries_each: bool = False) -> list[Call]:
    """Load units that arrive at these times with these rows; `summaries_each`: with summaries after each load."""
    calls: list[Call] = []
    at, first, in_file = 0.0, 0, 0
    while first < len(arrivals):
        last, (began, rows) = first, arrivals[first]
        while last + 1 < len(arrivals) and (rows < loader.least_rows or arrivals[last + 1][0] <= max(at, began)):
            last += 1
            began = arrivals[last][0]
            rows += arrivals[last][1]
        began = max(at, began)
        in_file += rows
        at = began + loader.seconds(last + 1 - first, rows) + (loader.summarise(in_file) if summaries_each else 0)
        calls.append(Call(began, at, last + 1 - first, rows))
        first = last + 1
    return calls


def load_into_files(arrivals: Sequence[tuple[float, int]], loader: Loader, n_files: int) -> float:
    """When all is in one file, where as many loaders write a file each, and these are merged into the first."""
    loaded = [load(arrivals[i::n_files], loader) for i in range(n_files)]
    rows = sum(call.rows for calls in loaded[1:] for call in calls)
    return max(calls[-1].ended for calls in loaded if calls) + rows / loader.merge_rows_per_s


def load_into_lake(arrivals: Sequence[tuple[float, int]], loader: Loader, n_writers: int) -> float:
    """When all is in a lake, where as many writers write files, and one commits what they wrote."""
    written = sorted(call.ended for i in range(n_writers) for call in load(arrivals[i::n_writers], loader))
    committed = 0.0
    for ended in written:
        committed = max(committed, ended) + loader.commit_s
    return committed
