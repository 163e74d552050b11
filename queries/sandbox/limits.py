"""How much memory the process that answers a query may take."""

import sys
from pathlib import Path

from selfrepair.warehouse.database.limits import Limits

_MEMORY_OF_THREADS = 200_000_000


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
