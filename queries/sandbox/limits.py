"""How much a query may take, and what DuckDB is kept from while it runs."""

import contextlib
import os
import sys
from dataclasses import dataclass, field, fields
from numbers import Integral
from pathlib import Path

import duckdb

from selfrepair.queries.catalog.quoting import literal

GB = 10**9
_LEAST_MEMORY_A_THREAD = 500_000_000
_LEAST_MEMORY = 200_000_000
_MEMORY_OF_THREADS = 200_000_000


_EXAMPLES = {"memory_bytes": 2 * GB, "spill_bytes": 20 * GB, "answer_bytes": GB // 2, "n_threads": 4}


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


def confine(con: duckdb.DuckDBPyConnection, limits: Limits, spill_folder: Path) -> None:
    """Hold the database that `con` has open to the limits, and to its own file: no other files, no network, no
    extensions, no variables of this process. None of it can be taken back.

    `spill_folder` need not be there; DuckDB makes it when memory runs out, and removes it when the database is closed.
    """
    with contextlib.suppress(duckdb.Error):  # prompts looked up by a join are then found without reading all others
        con.execute("SET dynamic_or_filter_threshold = 1000")
    ((is_locked,),) = con.execute("SELECT current_setting('lock_configuration')").fetchall()
    if is_locked:
        return  # another connection of this process to the same file was here before
    for setting in (
        f"memory_limit = '{limits.memory_bytes}B'",
        f"threads = {limits.n_threads}",
        f"temp_directory = {literal(str(spill_folder))}",
        f"max_temp_directory_size = '{limits.spill_bytes}B'",
        "python_enable_replacements = false",
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        con.execute(f"SET {setting}")


def confine_process(limits: Limits) -> None:
    """Let this process take no more memory than a question with these limits may need.

    DuckDB counts its buffers, but not the strings and lists it is working on; beyond this limit they fail with an error
    instead of driving the machine out of memory. Where the system knows no such limit (macOS, Windows) there is none.
    """
    if sys.platform != "linux":
        return
    import resource

    strings = limits.memory_bytes // 4
    most = memory_in_use() + limits.memory_bytes + strings + spare_bytes(limits)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def spare_bytes(limits: Limits) -> int:
    """How many bytes a process may have grown by and still have room for the next question."""
    return limits.memory_bytes // 4 + _MEMORY_OF_THREADS


def memory_in_use() -> int:
    """Bytes that this process has reserved, as the limit of `confine_process` counts them; 0 where none is."""
    if sys.platform != "linux":
        return 0
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
