"""The device and precision of the command line. What can be told without torch is told before it is imported."""

import ctypes
import functools
import importlib.machinery
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfrepair.ingest.conventions import PRECISIONS, Precision
from selfrepair.warehouse.errors import SelfRepairError

if TYPE_CHECKING:
    import torch

_BUILT_FOR = re.compile(r"^(cuda|hip)(?:: [^=]*)? = '", re.MULTILINE)
"""A line of torch/version.py that names a version of either."""

_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


_OPTIONS, _USE = ("--device", "--devices"), ("--device auto", "--devices all")


def check_device(name: str, dtype: str, *, among: bool = False) -> None:
    """Raise SelfRepairError for a device that this machine cannot have, and a precision that it then cannot compute in.
    `among`: it is one of `--devices`.

    Torch is not imported: what passes may still be refused by `choose_device`.
    """
    if "+" in name:
        for part in parse_spread(name):
            check_device(part, dtype, among=among)
        return
    kind = name.partition(":")[0]
    if kind == "cuda" and not _may_have_cuda():
        raise _not_here(name, ["mps", "cpu"] if sys.platform == "darwin" else ["cpu"], among=among)
    if kind == "mps" and sys.platform != "darwin":
        raise _not_here(name, ["cuda", "cpu"] if _may_have_cuda() else ["cpu"], among=among)
    if dtype == "tf32" and (kind in ("cpu", "mps") or (kind == "auto" and not _may_have_cuda())):
        raise _no_tf32()


@dataclass(frozen=True)
class WorkerDevice:
    """A device with a process of its own: `name` is one of a kind among them, `device` what torch calls it. Several devices
    that share one process' model are joined by +.
    """

    name: str
    device: str


def parse_spread(text: str) -> list[str]:
    """`cuda:0+cuda:1` -> the devices that share the layers of one model. Raises SelfRepairError for other than GPUs by
    number.
    """
    parts = [part.strip() for part in text.split("+")]
    if not all(re.fullmatch(r"cuda:\d+", part) for part in parts):
        raise SelfRepairError(
            f"{text}: the layers of a model are shared by GPUs of this machine, by number, such as cuda:0+cuda:1."
        )
    names = [f"cuda:{int(part.partition(':')[2])}" for part in parts]
    if len({*names}) < len(names):
        raise SelfRepairError(f"{text} names a device twice. Name each once.")
    return names


def parse_devices(text: str) -> list[WorkerDevice] | None:
    """`cuda:0,cuda:3`, `cuda:0+cuda:1,cuda:2+cuda:3`, `mps` or `cpu:2` -> a device for each process; None for `all`.

    Raises SelfRepairError for what names no device, names one twice, or leaves open which.
    """
    parts = [part.strip() for part in text.split(",")]
    if parts == ["all"]:
        return None
    found: list[WorkerDevice] = []
    for part in parts:
        if "+" in part:
            found.append(WorkerDevice(*["+".join(parse_spread(part))] * 2))
            continue
        match = re.fullmatch(r"(cuda):(\d+)|(cpu)(?::([1-9]\d*))?|(mps)", part)
        if match is None:
            raise SelfRepairError(
                f"--devices {text}: {part or 'nothing'} is no device. Write all, or GPUs by number such as cuda:0,cuda:3, or "
                "cpu:2 for two processes on the CPU. cuda:0+cuda:1 is one process, whose model is spread over both."
            )
        n_cpu = int(match[4] or 1) if match[3] else 0
        if n_cpu > 1:
            found += [WorkerDevice(f"cpu {number} of {n_cpu}", "cpu") for number in range(1, n_cpu + 1)]
        else:
            found.append(WorkerDevice(*[f"cuda:{int(match[2])}" if match[1] else match[3] or match[5]] * 2))
    kinds = [part.partition(":")[0] if part.startswith("cpu") else part for part in parts]
    single = [device for one in found for device in one.name.split("+")]
    if len({*kinds}) < len(kinds) or len({*single}) < len(single):
        raise SelfRepairError(
            f"--devices {text} names a device twice. Name each once; cpu:2 is two processes on the CPU."
        )
    return found


def choose_devices(text: str, dtype: str) -> list[WorkerDevice]:
    """The devices of `parse_devices`; for `all` every GPU of this machine, or the CPU where there is none.

    Raises SelfRepairError for one that this machine lacks or that does not compute in `dtype`. Torch is imported only where
    there may be a GPU.
    """
    found = parse_devices(text) or _all_devices()
    for one in found:
        check_device(one.device, dtype, among=True)
    if any(one.device != "cpu" for one in found):
        for one in found:
            choose_devices_of_one(one.device, among=True)
    return found


def _all_devices() -> list[WorkerDevice]:
    n_cuda, has_mps = 0, False
    if _may_have_cuda() or sys.platform == "darwin":
        import torch

        n_cuda, has_mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    names = [f"cuda:{number}" for number in range(n_cuda)] or ["mps" if has_mps else "cpu"]
    return [WorkerDevice(name, name) for name in names]


def choose_devices_of_one(name: str, local_rank: int | None = None, *, among: bool = False) -> "list[torch.device]":
    """The device of `choose_device`, or the several that share the layers of one model."""
    if "+" not in name:
        return [choose_device(name, local_rank, among=among)]
    return [choose_device(part, among=among) for part in parse_spread(name)]


def choose_device(name: str, local_rank: int | None = None, *, among: bool = False) -> "torch.device":
    """`auto` is a CUDA GPU, else Apple's, else the CPU; of several GPUs the one of this process, where its launcher gave it a
    number on this machine (`local_rank`, from 0). `among`: it is one of `--devices`. Raises SelfRepairError for one that this
    machine lacks.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, found in here.items() if found)
        if name == "cuda" and local_rank is not None and torch.cuda.device_count() > 1:
            name = _gpu_of(local_rank, torch.cuda.device_count())
    if not here.get(name.split(":")[0], False):
        raise _not_here(name, [device for device, present in here.items() if present], among=among)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SelfRepairError(f"--device {name} is not a device. Use auto, cpu, cuda, cuda:1 or mps.") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise SelfRepairError(
            f"{_OPTIONS[among]} {name} is not on this machine, which has {count}, counted from 0. Use {_USE[among]}."
        )
    return device


def choose_precision(name: str, device: "torch.device") -> Precision:
    """The precision of that name, its matrix products switched on for `tf32`."""
    import torch

    precision = PRECISIONS[name]
    if precision.tf32 and device.type != "cuda":
        raise _no_tf32()
    if name == "float64" and device.type == "mps":
        raise SelfRepairError("--dtype float64 does not exist on Apple GPUs. Use --device cpu.")
    torch.set_float32_matmul_precision("high" if precision.tf32 else "highest")
    return precision


def _gpu_of(local_rank: int, count: int) -> str:
    if local_rank >= count:
        raise SelfRepairError(
            f"--device auto: this is process {local_rank + 1} on this machine, which has {count} GPUs. Start as many processes "
            "as there are GPUs, or name the device, such as --device cuda:0."
        )
    return f"cuda:{local_rank}"


@functools.cache
def _may_have_cuda() -> bool:
    """Whether torch is built for CUDA (or ROCm, which it calls so) and the driver is there; where that cannot be told, yes."""
    found = importlib.machinery.PathFinder.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return True  # importing it says what is missing
    try:
        versions = (Path(found.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return True
    built_for = _BUILT_FOR.findall(versions)
    if built_for != ["cuda"]:
        return "hip" in built_for
    try:
        ctypes.CDLL(_DRIVERS.get(sys.platform, _DRIVERS["linux"]))
    except OSError:
        return False
    return True


def _not_here(name: str, found: list[str], *, among: bool) -> SelfRepairError:
    return SelfRepairError(
        f"{_OPTIONS[among]} {name} is not on this machine (found: {', '.join(found)}). Use {_USE[among]}."
    )


def _no_tf32() -> SelfRepairError:
    return SelfRepairError("--dtype tf32 needs an NVIDIA GPU. Use --dtype float32.")
