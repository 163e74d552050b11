"""What a connection to a warehouse may take, and what it is kept from, from its first moment on."""

import os
from dataclasses import dataclass, field, fields
from numbers import Integral
from pathlib import Path

GB = 10**9
_LEAST_MEMORY_A_THREAD = 500_000_000
_LEAST_MEMORY = 200_000_000
_EXAMPLES = {"memory_bytes": 2 * GB, "spill_bytes": 20 * GB, "answer_bytes": GB // 2, "n_threads": 4}

Settings = dict[str, str | bool | int | float | list[str]]
"""Settings of DuckDB's, as `duckdb.connect` takes them."""

CLOSED: Settings = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
}
"""No file but the opened one, no network, no extension, no variable of this process. None of it can be taken back while a
database is open. Given when it is opened: what a file holds may be anybody's, and views and functions in it run as soon as
something is read.
"""


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # Windows
        return 2 * GB


def _n_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Limits:
    """What one question may take. `memory_bytes` is DuckDB's working memory, half of this machine's but 4 GB at most;
    what does not fit there goes to a temporary folder, up to `spill_bytes`; the rows that come back may have
    `answer_bytes`, a quarter of the memory if not given. `n_threads` is 0 for as many as there are processors and
    memory for.

    Raises TypeError for what is no whole number, and ValueError for one below 0 or for less memory than DuckDB needs.
    """

    memory_bytes: int = field(default_factory=lambda: min(4 * GB, _half_of_memory()))
    spill_bytes: int = 20 * GB
    answer_bytes: int = 0
    n_threads: int = 0

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if not isinstance(value, Integral) or isinstance(value, bool):
                example = f"{limit.name}={_EXAMPLES[limit.name]:_}"
                raise TypeError(f"{limit.name} takes a whole number, such as {example}, not {value!r}")
            if value < 0:
                raise ValueError(f"{limit.name} takes a whole number from 0, not {value}")
        if self.memory_bytes < _LEAST_MEMORY:
            raise ValueError(
                f"memory_bytes takes {_LEAST_MEMORY:_} or more, which DuckDB needs, not {self.memory_bytes}"
            )
        if not self.answer_bytes:
            object.__setattr__(self, "answer_bytes", self.memory_bytes // 4)
        if not self.n_threads:
            threads = min(_n_processors(), self.memory_bytes // _LEAST_MEMORY_A_THREAD)
            object.__setattr__(self, "n_threads", max(1, threads))

    def settings(self, spill_folder: Path | None = None) -> Settings:
        """A reader's settings: `CLOSED`, these limits, and a lock on all of it. `spill_folder` need not be there: DuckDB makes
        it when memory runs out, and removes it when the database is closed; by default `connect` names one beside the file.
        """
        return {
            **CLOSED,
            **({} if spill_folder is None else {"temp_directory": str(spill_folder)}),
            "memory_limit": f"{self.memory_bytes}B",
            "max_temp_directory_size": f"{self.spill_bytes}B",
            "threads": self.n_threads,
            "dynamic_or_filter_threshold": 1000,  # prompts looked up by a join are found without reading all others
            "lock_configuration": True,
        }
