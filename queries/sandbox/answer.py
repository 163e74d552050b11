"""What a query is answered with: rows as they come, all of them as one frame, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfrepair.warehouse.errors import SelfRepairError, in_words

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from selfrepair.warehouse.database.limits import Limits

OnNote = Callable[[str], None]
"""Called with one sentence about the warehouse that matters for reading an answer."""

Params = Mapping[str, Any] | Sequence[Any]
"""Values of a query's parameters: by name for `$name`, in order for `?`."""


@dataclass(frozen=True)
class Answer:
    """The rows of a query; `truncated`: it has more than these, and the limit cut them."""

    frame: pl.DataFrame
    truncated: bool


class Batches:
    """An answer's rows as they come, in Arrow batches of at most 100,000. To be read while its reader is open, once.

    `truncated` says, after the last batch, whether the limit cut rows off. Reading raises SelfRepairError when the query
    fails on the way, runs out of time or memory, or its rows take more room than they may.
    """

    def __init__(self, schema: pa.Schema, batches: Generator[pa.RecordBatch, None, bool]) -> None:
        self.schema = schema
        self.truncated = False
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        self.truncated = yield from self._batches

    def to_reader(self) -> pa.RecordBatchReader:
        """The same rows as Arrow's own kind of stream."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, iter(self))

    def to_table(self) -> pa.Table:
        """All rows."""
        import pyarrow as pa

        return pa.Table.from_batches(list(self), self.schema)

    def to_answer(self) -> Answer:
        """All rows as one polars frame."""
        return Answer(polars_frame(self.to_table()), self.truncated)


def polars_frame(rows: pa.Table | pa.RecordBatch) -> pl.DataFrame:
    """The rows as a polars frame. Raises SelfRepairError where polars cannot hold them."""
    import polars as pl

    with needing_plain_types():
        frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame


@contextmanager
def needing_plain_types() -> Iterator[None]:
    """What a library makes of an answer's values: raises SelfRepairError for its errors and its panics alike."""
    import pyarrow as pa
    from polars.exceptions import PanicException, PolarsError

    try:
        yield
    except (PanicException, PolarsError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SelfRepairError(
            f"the answer has values that cannot be given out ({str(error).partition(chr(10))[0]}). Have them as text: "
            "CAST(... AS VARCHAR)"
        ) from error


_IN_A_TERMINAL = "in a terminal, selfrepair query SQL --timeout SECONDS"


def out_of_time(timeout_s: float) -> str:
    """The error of a query that was stopped after `timeout_s` seconds."""
    return (
        f"the query was stopped at its time limit of {timeout_s:g} s. Narrow it down (WHERE run_id = 1 AND layer = 9), "
        f"read a view that is summarised already (head_repair, layer_repair), or allow more time: "
        f"{in_words('--timeout SECONDS', 'timeout_s=...', _IN_A_TERMINAL, _IN_A_TERMINAL)}"
    )


def out_of_memory(limits: Limits) -> str:
    """The error of a query that needs more memory than it may."""
    return (
        f"the query needs more than the {limits.memory_bytes / 1e6:,.0f} MB of memory it may have. "
        "Narrow it down, or build no long strings and lists."
    )
