"""Routed experts, told by how they are called: a module is given tokens, the numbers of each token's chosen experts, and their
routing weights; or, as in Llama 4, every token once for each expert, multiplied by its weight, which is 0 if it is not chosen.

What each chosen expert adds is read by giving a module of the first kind every pair of a token and one of its experts as a
token of its own: that is the module's own arithmetic, of whatever family, and no more of it than it does anyway.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from selfrepair.ingest.models.structure.numbers import Numbers

_N_PROBED = 7
"""Tokens that experts are probed with."""


@dataclass(frozen=True)
class Routing:
    """The experts that each token chose; `outputs` are what each adds, its routing weight times its own output."""

    index: Int[Tensor, "*token chosen"]
    weights: Float[Tensor, "*token chosen"]
    outputs: Float[Tensor, "*token chosen d_model"]

    def each(self, reshape: Callable[[Tensor], Tensor]) -> "Routing":
        """The same, with `reshape` applied to the tensors' axes of tokens."""
        return Routing(reshape(self.index), reshape(self.weights), reshape(self.outputs))


@dataclass(frozen=True)
class RoutedExperts:
    """The routed experts of one MLP, whose sum is multiplied by `factor` in the MLP's output.

    `arguments` are the names of the module's arguments with tokens, chosen experts and routing weights; None where every
    expert is given every token.
    """

    module: nn.Module
    arguments: tuple[str, str, str] | None
    n_experts: int
    factor: float

    @contextlib.contextmanager
    def read(self) -> Iterator[list[Routing]]:
        """While this is open, every call of the module appends its routing."""
        found: list[Routing] = []
        if self.arguments is None:
            handles = [self.module.register_forward_hook(lambda _, args, out: found.append(self._of_all(args[0], out)))]
        else:
            handles = self._paired(self.arguments, found)
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def _paired(self, names: tuple[str, str, str], found: list[Routing]) -> list[Any]:
        """Hooks that make tokens of the pairs, and add up what they give."""
        given: list[tuple[torch.Size, Tensor, Tensor]] = []

        def pair(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            bound = inspect.signature(module.forward).bind(*args, **kwargs)
            x, index, weights = (bound.arguments[name] for name in names)
            given.append((x.shape, index, weights))
            tokens = x.flatten(0, -2).repeat_interleave(
                index.shape[-1], dim=0
            )  # some see prompts, and most their tokens alone
            pairs = tokens[None] if x.ndim > 2 else tokens, index.reshape(-1, 1), weights.reshape(-1, 1)
            bound.arguments.update(zip(names, pairs, strict=True))
            return bound.args, bound.kwargs

        def add_up(_: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
            shape, index, weights = given.pop()
            outputs = out.reshape(*index.shape, shape[-1])
            found.append(Routing(index, weights, outputs))
            return outputs.sum(dim=-2).view(shape)

        return [
            self.module.register_forward_pre_hook(pair, with_kwargs=True),
            self.module.register_forward_hook(add_up),
        ]

    def _of_all(self, x: Float[Tensor, "row d_model"], out: Float[Tensor, "row d_model"]) -> Routing:
        """The routing of tokens that every expert was given: their lengths are in the ratio of the routing weights."""
        lengths = x.unflatten(0, (self.n_experts, -1)).norm(dim=-1).T
        n_chosen = int((lengths > 0).sum(dim=-1).max())
        weights, index = lengths.topk(n_chosen, dim=-1)
        outputs = out.unflatten(0, (self.n_experts, -1)).movedim(0, 1)
        return Routing(index, weights, outputs.take_along_dim(index[..., None], dim=1))


@torch.no_grad()
def routed_experts(
    block: nn.Module, mlp: Callable[[Tensor], Tensor], like: Float[Tensor, " d_model"], numbers: Numbers
) -> RoutedExperts | None:
    """The routed experts of an MLP whose inputs are `like` this vector in size, precision and place.

    None where no module of the block is called as experts are, or where the MLP is not a multiple of what they add up to and a
    rest that does not depend on them.
    """
    x = torch.randn(1, _N_PROBED, len(like), generator=torch.Generator().manual_seed(0)).to(like)
    calls: list[tuple[nn.Module, tuple[str, str, str] | None, int, Tensor]] = []

    def watch(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        tensors = _tensors(module, args, kwargs)
        n_experts = _n_experts(module)
        if n_experts is None or not isinstance(out, Tensor) or out.shape[-1:] != like.shape:
            return
        if _are_routed(list(tensors.values())) and out.shape == next(iter(tensors.values())).shape:
            first, second, third = tensors
            calls.append((module, (first, second, third), n_experts, out.flatten(0, -2)))
        elif [value.shape for value in tensors.values()] == [(n_experts * _N_PROBED, len(like))] == [out.shape]:
            calls.append((module, None, n_experts, out.unflatten(0, (n_experts, -1)).sum(dim=0)))

    with _hooked(list(block.modules()), watch):
        out = mlp(x)
    if len(calls) != 1:
        return None
    module, names, n_experts, made = calls[0]
    experts = RoutedExperts(module, names, n_experts, 1.0)
    with experts.read() as found:
        mlp(x)
    with _hooked([module], lambda module, args, kwargs, out: torch.zeros_like(out)):
        without = mlp(x)
    total = found[0].outputs.sum(dim=1)
    if numbers.factor(total, made, float(made.abs().max())) != 1:
        return None
    factor = numbers.factor(total.view_as(x), out - without, float(torch.maximum(out.abs(), without.abs()).max()))
    return RoutedExperts(module, names, n_experts, factor) if factor else None


@contextlib.contextmanager
def _hooked(modules: Sequence[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _tensors(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors that a module is called with, by the names of its arguments."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError:
        return {}
    return {name: value for name, value in bound.arguments.items() if isinstance(value, Tensor)}


def _are_routed(tensors: Sequence[Tensor]) -> bool:
    """Whether these are tokens, their experts and the weights of these."""
    if len(tensors) != 3 or any(value.ndim < 2 or value.shape[:-1].numel() != _N_PROBED for value in tensors):
        return False
    _, index, weights = tensors
    return (
        index.ndim == 2
        and not index.is_floating_point()
        and weights.is_floating_point()
        and index.shape == weights.shape
    )


def _n_experts(module: nn.Module) -> int | None:
    """How many experts a module has, if several: it says so, or all its stacks of matrices are as high."""
    named = getattr(module, "num_experts", None)
    heights = {len(parameter) for parameter in module.parameters(recurse=False) if parameter.ndim == 3}
    n_experts = named if isinstance(named, int) else heights.pop() if len(heights) == 1 else 1
    return n_experts if n_experts > 1 else None
