"""Time work on a device, where a call may return before the work is done."""

import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object], device: torch.device, runs: int) -> list[float]:
    """Seconds of each of `runs` calls, the device idle before and after."""
    found = []
    for _ in range(runs):
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        found.append(time.perf_counter() - started)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
