"""What the calls of a trace have to do with each other."""

import inspect
import re

import torch
from torch import Tensor, nn

from selfrepair.ingest.models.structure.trace import Call

RESIDUAL = "residual"
"""Name of the argument with the residual stream, in families whose modules add their output to it themselves."""

_ATTENTION = re.compile("attention|attn", re.IGNORECASE)
_WITHOUT_SOFTMAX = re.compile("linear|lightning|delta|recurrent|mamba|conv", re.IGNORECASE)
_NORM = re.compile("norm", re.IGNORECASE)


def has_softmax_heads(call: Call) -> bool:
    """Whether a module is softmax attention."""
    kind = _own_name(type(call.module))
    return (call.attends or bool(_ATTENTION.search(kind))) and not _WITHOUT_SOFTMAX.search(kind) and not is_norm(call)


def _own_name(module_class: type[nn.Module]) -> str:
    """A class's name in lower case without its family's, which may be that of another kind of layer (RecurrentGemma)."""
    family = module_class.__module__.split(".")[-2:][0].replace("_", "")
    return module_class.__name__.lower().removeprefix(family)


def is_positionwise(call: Call) -> bool:
    """Whether a module makes of one position alone what it makes of it after others."""
    assert call.x is not None, "modules that were given no tensor have no place in a block"
    assert call.out is not None
    try:
        alone = call.module(call.x[:, -1:])
    except (TypeError, AttributeError, ValueError, RuntimeError):  # it needs more than the stream
        return False
    return same(alone[0] if isinstance(alone, tuple) else alone, call.out[:, -1:], is_rounded=True)


def adds_stream(module: nn.Module) -> bool:
    """Whether a module adds the residual stream to what it makes itself, as in Bloom."""
    return RESIDUAL in inspect.signature(module.forward).parameters


def added(call: Call, stream: Tensor) -> Tensor:
    """What a part makes, without the stream that it may have added."""
    assert call.out is not None, "calls that made no tensor are left out"
    return call.out - stream if adds_stream(call.module) else call.out


def module_of(call: Call | None) -> nn.Module | None:
    """The module of a call, if there is one."""
    return None if call is None else call.module


def does_nothing(call: Call) -> bool:
    """Whether a module made what it was given, as dropout does."""
    return same(call.x, call.out) and not any(True for _ in call.module.parameters())


def is_norm(call: Call) -> bool:
    """Whether a module is a norm, by its name; of norms with a gate, the whole. What holds attention, too, is none (DBRX)."""
    is_named = bool(_NORM.search(_own_name(type(call.module)))) and call.x is not None
    return is_named and not any(
        child.attends or _ATTENTION.search(type(child.module).__name__) for child in call.walk()
    )


def same(one: Tensor | None, other: Tensor | None, *, is_rounded: bool = False) -> bool:
    """Whether two tensors are the same numbers, whatever their shapes; but for rounding where one is a difference."""
    if one is None or other is None or one.numel() != other.numel():
        return False
    a, b = one.flatten(), other.flatten().to(one.device)
    return bool((a - b).abs().max() <= 1e-2 * b.abs().max()) if is_rounded else torch.equal(a, b)
