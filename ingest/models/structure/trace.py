"""One forward of a model as a tree of its modules' calls, with what went in and what came out."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_SOFTMAX = (functional.softmax, torch.softmax, Tensor.softmax, torch.logsumexp)


@dataclass(eq=False)
class Call:
    """One call of a module: its name in the model, its first tensor and what it made of that, as they were at that moment.

    `children` are the calls within it, in order, `given` all its arguments, `returned` all that it made; `attends` says whether
    a softmax over attention scores was taken in it, which a fused kernel of another library hides.
    """

    name: str
    module: nn.Module
    x: Tensor | None
    out: Tensor | None = None
    attends: bool = False
    children: list["Call"] = field(default_factory=list)
    given: tuple[tuple[Any, ...], Mapping[str, Any]] = ((), {})
    returned: Any = None

    def arguments(self) -> dict[str, Tensor]:
        """The tensors that it was given, by the names of its arguments."""
        arguments, keywords = self.given
        try:
            bound = inspect.signature(self.module.forward).bind(*arguments, **keywords).arguments
        except TypeError:
            return {}
        return {name: value for name, value in bound.items() if isinstance(value, Tensor)}

    def walk(self) -> Iterator["Call"]:
        """All calls within it, in the order in which they began."""
        for child in self.children:
            yield child
            yield from child.walk()


def trace(model: nn.Module, tokens: Int[Tensor, "batch pos"]) -> Call:
    """Run `model` on `tokens` and return the call of the model itself."""
    root = Call("", model, None)
    open_calls = [root]
    names = {module: name for name, module in model.named_modules()}

    def begin(module: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        call = Call(names[module], module, _kept(_first_tensor([*arguments, *_streams_first(keywords)])))
        call.given = arguments, keywords
        open_calls[-1].children.append(call)
        open_calls.append(call)

    def end(_: nn.Module, __: tuple[Any, ...], out: Any) -> None:
        call = open_calls.pop()
        call.out, call.returned = _kept(_first_tensor([out])), out

    handles = []
    for module in names:
        handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(module.register_forward_hook(end))
    try:
        with _Attending(open_calls):
            model(input_ids=tokens, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return root.children[0]


class _Attending(TorchFunctionMode):
    """While it is on, the open calls in which attention weights are computed are marked."""

    def __init__(self, open_calls: list[Call]) -> None:
        super().__init__()
        self._open_calls = open_calls

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if function is functional.scaled_dot_product_attention or (
            function in _SOFTMAX and arguments and _are_scores(arguments[0])
        ):
            for call in self._open_calls:
                call.attends = True
        return function(*arguments, **(keywords or {}))


def _are_scores(x: Tensor) -> bool:
    """Whether these are attention scores: [batch, head, query, key], or [batch * head, query, key].

    What chooses experts is [batch, pos, expert], and no model has as many experts as the prompt has tokens.
    """
    return x.ndim > 3 or (x.ndim == 3 and x.shape[1] == x.shape[2])


def _streams_first(keywords: Mapping[str, Any]) -> list[Any]:
    named = [keywords[name] for name in ("hidden_states", "x", "input") if name in keywords]
    return [*named, *keywords.values()]


def _first_tensor(values: list[Any]) -> Tensor | None:
    for value in values:
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Mapping):
            value = list(value.values())
        if isinstance(value, list | tuple):
            found = _first_tensor(list(value))
            if found is not None:
                return found
    return None


def _kept(value: Tensor | None) -> Tensor | None:
    return None if value is None or not value.is_floating_point() else value.detach().clone()
