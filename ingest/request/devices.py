"""The device and precision of the command line."""

import torch

from selfrepair.ingest.conventions import PRECISIONS, Precision
from selfrepair.warehouse.errors import SelfRepairError


def choose_device(name: str) -> torch.device:
    """`auto` is a CUDA GPU, else Apple's, else the CPU. Raises SelfRepairError for one that this machine lacks."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, found in here.items() if found)
    if not here.get(name.split(":")[0], False):
        found = ", ".join(device for device, present in here.items() if present)
        raise SelfRepairError(f"--device {name} is not on this machine (found: {found}). Use --device auto.")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SelfRepairError(f"--device {name} is not a device. Use auto, cpu, cuda, cuda:1 or mps.") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise SelfRepairError(
            f"--device {name} is not on this machine, which has {count}, counted from 0. Use --device auto."
        )
    return device


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision of that name, its matrix products switched on for `tf32`."""
    precision = PRECISIONS[name]
    if precision.tf32 and device.type != "cuda":
        raise SelfRepairError("--dtype tf32 needs an NVIDIA GPU. Use --dtype float32.")
    if name == "float64" and device.type == "mps":
        raise SelfRepairError("--dtype float64 does not exist on Apple GPUs. Use --device cpu.")
    torch.set_float32_matmul_precision("high" if precision.tf32 else "highest")
    return precision
