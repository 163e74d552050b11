"""What a frame warns of: rows that are missing in it, and why; means of few rows, intervals of few documents."""

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfrepair.queries.catalog.shared import INTERVALS
from selfrepair.queries.catalog.which_run import few_clusters, few_rows
from selfrepair.queries.client.unmeasured import unmeasured
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_OF_CLUSTERS = (*INTERVALS, "standard_error")
_COURTESY_S = 3.0
"""How long it may take to find out why there are no rows, which is no part of the answer."""


class Truncated(UserWarning):
    """A frame has fewer rows than its query: the limit cut the rest."""


class OutOfDate(UserWarning):
    """Summaries of a run are missing in the file, and views show nothing of it."""


class NotMeasured(UserWarning):
    """A frame has no rows because nothing in the file measured what it is about; the text names the command that does."""


class FewRows(UserWarning):
    """A frame has means of so few rows, or intervals of so few documents, that they say little."""


class SpecialTokensInText(UserWarning):
    """Texts that are measured spell special tokens, such as `</s>`, which tokenizers read as such."""


def warn(text: str, category: type[Warning]) -> None:
    """Warn at the line outside of this package that asked."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("selfrepair."):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def warn_out_of_date(text: str) -> None:
    """Warn, `OutOfDate`."""
    warn(text, OutOfDate)


def few_in(frame: "pl.DataFrame") -> list[str]:
    """Sentences on means in the frame that are of few rows, and intervals that are of few documents, as n_rows and n_clusters
    say.
    """
    return _few(frame.columns, lambda name: frame[name].min())


def few_in_table(rows: "pa.Table") -> list[str]:
    """The same of an Arrow table."""
    import pyarrow as pa
    import pyarrow.compute as pc

    def least(name: str) -> object:
        return pc.min(rows[name]).as_py() if pa.types.is_integer(rows[name].type) else None

    return _few(rows.column_names, least)


def _few(columns: Sequence[str], least: Callable[[str], object]) -> list[str]:
    found = []
    if "n_rows" in columns and any(name.startswith("mean_") for name in columns):
        found.append(few_rows(least("n_rows")))
    if "n_clusters" in columns and any(name.endswith(_OF_CLUSTERS) for name in columns):
        found.append(few_clusters(least("n_clusters")))
    return [text for text in found if text]


def warn_few(frame: "pl.DataFrame") -> None:
    """Warn, `FewRows`, of what `few_in` finds."""
    for text in few_in(frame):
        warn(text, FewRows)


def warn_unmeasured(
    ask: Callable[..., list[dict[str, Any]]],
    db: Path,
    query: str,
    name: str = "",
    filters: Mapping[str, Any] | None = None,
) -> None:
    """Warn, `NotMeasured`, of an answer to `query` without rows, if that is why; `ask` answers SQL within `timeout_s`.

    The rest are arguments of `unmeasured`.
    """
    with suppress(SelfRepairError):
        if text := unmeasured(partial(ask, timeout_s=_COURTESY_S), db, query, name, filters):
            warn(text, NotMeasured)
