"""Devices that are not there: tensors on them compute on the CPU, and an operation on tensors of two of them fails, as on GPUs.

PyTorch does not tell `cpu:0` from `cpu:1`. Tensors here are of a subclass that only says where they are; the CPU's kernels run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

FIRST, SECOND = torch.device("lazy:0"), torch.device("lazy:1")
"""Of a kind that PyTorch has in every build, and nobody computes on."""

_MOVES = ("to", "cpu", "_to_copy", "copy_")
"""Operations that bring numbers from one device to another."""

_TAKES_INDICES = ("index", "index_put", "index_put_")
"""Operations whose indices may be on the CPU."""


class PlacedTensor(Tensor):
    """A tensor that says it is on a device; its numbers are `values`, on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor, device: torch.device) -> "PlacedTensor":
        placed: PlacedTensor = Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), dtype=values.dtype, device=device
        )
        placed.values = values
        return placed

    def __repr__(self, **_: Any) -> str:
        return f"{self.values} on {self.device}"

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Devices(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _MadeFromNumbers(TorchFunctionMode):
    """What C++ makes a tensor of out of sight of the other mode: numbers for `torch.tensor`, lists as indices."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.tensor and kwargs.get("device") is not None:
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to(kwargs["device"])
        if function in (Tensor.__getitem__, Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            args = (args[0], tuple(torch.tensor(one) if isinstance(one, list) else one for one in index), *args[2:])
        return function(*args, **kwargs)


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    placed: dict[int, PlacedTensor] = {}
    where: set[torch.device] = set()
    asked: list[torch.device] = []
    name = function.overloadpacket.__name__
    if name == "_has_compatible_shallow_copy_type":
        return False  # so that `nn.Module.to` makes new parameters

    def plain(value: Any) -> Any:
        if isinstance(value, PlacedTensor):
            placed[id(value.values)] = value
            where.add(value.device)
            return value.values
        if isinstance(value, Tensor) and value.ndim and name not in _TAKES_INDICES:
            where.add(value.device)
        if isinstance(value, torch.device):
            asked.append(value)
            return torch.device("cpu")
        return type(value)(map(plain, value)) if type(value) in (list, tuple) else value

    args, kwargs = [plain(value) for value in args], {key: plain(value) for key, value in kwargs.items()}
    if len(where) > 1 and name not in _MOVES:
        found = ", ".join(sorted(map(str, where)))
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {found}")
    device = asked[0] if asked else next((one.device for one in placed.values()), torch.device("cpu"))

    def on_device(value: Any) -> Any:
        if isinstance(value, Tensor):
            own = placed.get(id(value))  # what was changed in place, or left as it was
            return own if own is not None and own.device == device else PlacedTensor(value, device)
        return type(value)(map(on_device, value)) if type(value) in (list, tuple) else value

    with torch.inference_mode(False), torch.no_grad():  # several views of a weight at once cannot be inference tensors
        made = function(*args, **kwargs)
        return made if device.type == "cpu" else on_device(made)


@contextmanager
def two_devices() -> Iterator[tuple[torch.device, torch.device]]:
    """Within it there are two devices that do not take each other's tensors, nor the CPU's."""
    with _Devices(), _MadeFromNumbers():
        yield FIRST, SECOND
