"""The most memory that this process has had."""

import resource
import sys

import torch


def peak_memory_mb(device: torch.device) -> float:
    """The most so far on the device [MB]; on any but a CUDA GPU, that of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return peak_process_mb()


def peak_process_mb() -> float:
    """The most so far of the machine's own memory [MB]."""
    scale = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20
