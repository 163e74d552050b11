"""Memory: what a process has used, what the C library keeps, and batches that are halved when it runs out."""

import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from selfrepair.ingest import compat
from selfrepair.warehouse.errors import DeviceMemoryError, in_words, with_dtype

Result = TypeVar("Result")

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3

LARGEST_KEPT = 2**25
"""Bytes of the largest blocks that are kept when they are freed, the most that glibc takes; those of a stack are smaller."""


class BatchSize:
    """How many sequences go through a layer at once: halved for good when memory runs out.

    It never changes a result. `on_halved` gets the new size.
    """

    def __init__(self, size: int, device: torch.device, on_halved: Callable[[int], None] = lambda size: None) -> None:
        self.size = size
        self._device = device
        self._on_halved = on_halved

    def fit(self, work: Callable[[int], Result]) -> Result:
        """The result of `work` at the current size, called again at half of it for as long as memory runs out.

        Raises DeviceMemoryError when not even one sequence fits.
        """
        while True:
            try:
                return work(self.size)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self._halve()  # outside the handler, whose error holds on to the tensors

    def for_each_batch(self, n_prompts: int, at_once: Callable[[int], int], work: Callable[[slice], None]) -> None:
        """Call `work` with one slice of the prompts after the other; `at_once` turns a size into prompts in a slice."""
        start = 0

        def batch(size: int) -> int:
            stop = min(n_prompts, start + at_once(size))
            work(slice(start, stop))
            return stop

        while start < n_prompts:
            start = self.fit(batch)

    def _halve(self) -> None:
        if self.size == 1:
            raise DeviceMemoryError(
                f"not even one sequence fits in the memory of {self._device}. Try "
                f"{in_words('a shorter --seq-len', 'shorter prompts')}, {with_dtype('bfloat16')}, or a device with more memory."
            )
        self.size //= 2
        free_memory()
        self._on_halved(self.size)


def is_out_of_memory(error: Exception) -> bool:
    """Whether `error` says that the memory of a device or of the machine does not suffice."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or compat.says_out_of_memory(error)


def free_memory() -> None:
    """Free what nothing refers to but itself, and what CUDA keeps for reuse."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def keep_freed_memory() -> None:
    """Tell glibc not to return freed blocks to the kernel between layers; on other systems, nothing happens.

    Fresh pages for activations cost more than the arithmetic on them. Larger blocks are returned: between them, small ones
    that stay would keep the heap from using the room of one for the next, so that it grew with every layer.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return
    mallopt(_M_MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**26)


def peak_memory_mb(device: torch.device) -> float:
    """The peak of the device's memory so far [MB]; on any but a CUDA GPU, that of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_process_mb()


def available_mb() -> float | None:
    """What this process has of the machine's memory and can still get [MB]; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return free / 2**10 + peak_process_mb()


def peak_process_mb() -> float:
    """The peak of the process's memory so far [MB], without a GPU's."""
    scale = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20
