"""The layers of one model on several devices, in order, as with the `device_map` of transformers.

What a module of the model is called with is brought to its device by a hook, so that the model's own forward runs as before.
The engine calls the parts of layers, which have no hook, and brings the residual stream to them itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from selfrepair.ingest.models.adapter import ModelAdapter, unsupported
from selfrepair.ingest.models.placement.upcast import stored_weight
from selfrepair.warehouse.errors import SelfRepairError


def spread(model: PreTrainedModel, name: str, devices: Sequence[torch.device]) -> None:
    """Put the layers of `model` on `devices`, in this order, each about as full as the others.

    Embeddings are on the first device, the final norm and the unembedding on the last; where the unembedding is the
    embedding, they are all on the first. Raises SelfRepairError where weights do not fit, where layers are fewer than
    devices, and where they share keys.
    """
    if getattr(model.config.get_text_config(), "num_kv_shared_layers", 0):
        raise _cannot(name, "layers read keys and values of another layer")
    layers = _layers(model)
    if layers is None or len(layers) < len(devices):
        found = "no list of layers" if layers is None else f"{len(layers)} layers"
        raise SelfRepairError(f"model '{name}' has {found}, which {len(devices)} devices cannot share. Name fewer.")
    before, after = _around(model, layers)
    is_tied = stored_weight(model.get_output_embeddings()) is stored_weight(model.get_input_embeddings())
    end = 0 if is_tied else len(devices) - 1
    others = [0] * len(devices)
    others[0] += sum(map(n_bytes, before))
    others[end] += sum(map(n_bytes, after)) - is_tied * n_bytes(model.get_output_embeddings())
    sizes, room = [n_bytes(layer) for layer in layers], [free_bytes(device) for device in devices]
    numbers = shared_layers(sizes, others, room)
    if any(free is not None for free in room) and (fullest := _fullest(numbers, sizes, others, room)) > 1:
        has = ", ".join(f"{(free or 0) / 1e9:.1f} GB on {device}" for device, free in zip(devices, room, strict=True))
        raise SelfRepairError(
            f"model '{name}' does not fit on these devices: its weights are {(sum(sizes) + sum(others)) / 1e9:.1f} GB, free "
            f"are {has}, and the fullest would need {fullest:.2f} times what it has. Name more devices, or a smaller --dtype."
        )
    for module in before:
        _put(module, devices[0])
    for layer, number in zip(layers, numbers, strict=True):
        _put(layer, devices[number])
    for module in after:
        _put(module, devices[end])
    _bring_inputs(model, devices[0])


def check_spread(adapter: ModelAdapter, name: str) -> None:
    """Raise SelfRepairError for a model on several devices whose layers hand on more than the residual stream."""
    if len(adapter.devices) < 2:
        return
    reasons = {
        "MLPs read what the one before them handed on": any(block.hands_on for block in adapter.blocks),
        "layers read something of the prompt beside the residual stream": any(
            block.branch is not None and block.branch.argument is not None for block in adapter.blocks
        ),
    }
    reason = next((reason for reason, is_so in reasons.items() if is_so), None)
    if reason is not None:
        raise _cannot(name, reason)


def _cannot(name: str, reason: str) -> SelfRepairError:
    return unsupported(name, f"its {reason}, so that its layers cannot be spread over devices. Name a single --device")


def shared_layers(sizes: Sequence[int], others: Sequence[int], room: Sequence[int | None]) -> list[int]:
    """The number of the device for each layer, in order, such that the fullest device is as empty as can be.

    `others` are the bytes of what else each device holds, `room` those that it has free: where that is not known, all have
    the same.
    """
    free = [1.0 if one is None or None in room else max(float(one), 1.0) for one in room]

    def share(most: float) -> list[int] | None:
        numbers, number, used = [], 0, float(others[0])
        for size in sizes:
            while used + size > most * free[number]:
                number += 1
                if number == len(free):
                    return None
                used = float(others[number])
            used += size
            numbers.append(number)
        return numbers

    low, high = 0.0, (sum(sizes) + sum(others)) / min(free)
    found = share(high) or []
    for _ in range(50):
        middle = (low + high) / 2
        better = share(middle)
        found, low, high = (found, middle, high) if better is None else (better, low, middle)
    return found


def free_bytes(device: torch.device) -> int | None:
    """The free memory of a CUDA GPU; None elsewhere."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def n_bytes(module: nn.Module) -> int:
    """Of all its weights and buffers."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _fullest(numbers: Sequence[int], sizes: Sequence[int], others: Sequence[int], room: Sequence[int | None]) -> float:
    used = [*others]
    for number, size in zip(numbers, sizes, strict=True):
        used[number] += size
    return max(0.0 if free is None else mine / max(free, 1) for mine, free in zip(used, room, strict=True))


def _layers(model: PreTrainedModel) -> nn.ModuleList | None:
    """The list of modules that holds the most weights."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    return max(lists, key=n_bytes, default=None)


def _around(model: nn.Module, layers: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The modules before the layers and after them, as the model lists them."""
    found = list(_beside(model, layers))
    at = next(number for number, module in enumerate(found) if module is layers)
    return found[:at], found[at + 1 :]


def _beside(module: nn.Module, layers: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if child is layers or not any(inner is layers for inner in child.modules()):
            yield child
        else:
            yield from _beside(child, layers)


def _put(module: nn.Module, device: torch.device) -> None:
    nn.Module.to(module, device=device)
    _bring_inputs(module, device)


def _bring_inputs(module: nn.Module, device: torch.device) -> None:
    """Bring the tensors of every call of a module to a device."""

    def bring(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, Any]:
        return _brought(arguments, device), _brought(keywords, device)

    module.register_forward_pre_hook(bring, with_kwargs=True)


def _brought(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if type(value) in (tuple, list):
        return type(value)(_brought(one, device) for one in value)
    if type(value) is dict and isinstance(value, Mapping):
        return {name: _brought(one, device) for name, one in value.items()}
    return value
