"""What layers that multiply the residual stream leave of it, read off the model without the adapter's factors."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfrepair.ingest.checks.plain_hooks import Done, adds, after_call, before_call, entering, run_plain
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.additions import Factor
from selfrepair.ingest.models.structure.roles import Nothing

_SAME = 1e-6
"""Differences between factors that are rounding."""


@dataclass(frozen=True)
class Reaches:
    """What is left at the final norm of what is added to the stream by attention of each layer and by what stands beside it,
    and of the stream that enters each layer, with that of the last one's output behind them.
    """

    attention: list[Factor]
    beside: list[list[Factor]]
    stream: list[Factor]


@torch.no_grad()
def reaches(adapter: ModelAdapter) -> Reaches:
    """Read off one forward in which whatever has matrices in a layer makes zeros, so that only what multiplies the stream acts:
    in each of its rows, one part adds ones, or ones are added to the stream that enters a layer.
    """
    parts = [[adds(block), *(one.module for one in block.beside)] for block in adapter.blocks]
    places = [(layer, number) for layer, modules in enumerate(parts) for number in range(-1, len(modules))]
    rows = {place: row for row, place in enumerate(places, start=1)}
    entered: list[nn.Module] = []
    final: list[Tensor] = []

    def ones(out: Any, row: int) -> Any:
        first = torch.zeros_like(out[0] if isinstance(out, tuple) else out)
        (first if len(first) == len(rows) + 1 else first.view(len(rows) + 1, 1, -1))[row] = 1
        return (first, *out[1:]) if isinstance(out, tuple) else first

    def enter(layer: int, block: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        entered.append(block)
        stream = entering(arguments, keywords)
        stream = torch.zeros_like(stream) if layer == 0 else stream.clone()
        stream[rows[layer, -1]] += 1
        return ((stream, *arguments[1:]), keywords) if arguments else ((), {**keywords, "hidden_states": stream})

    def done(arguments: tuple[Any, ...], _: Tensor) -> None:
        if len(entered) == adapter.n_layers:  # some models use the norm within their blocks, too
            final.append(arguments[0][:, -1])
            raise Done

    with ExitStack() as hooks:
        for layer, block in enumerate(adapter.blocks):
            for module in block.module.modules():
                has_weights = any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))
                if has_weights and not any(inner in parts[layer] for inner in module.modules()):
                    hooks.callback(module.register_forward_hook(lambda _, __, out: _zeros(out)).remove)
            for number, module in enumerate(parts[layer]):
                if not isinstance(module, Nothing):
                    at = rows[layer, number]
                    hooks.callback(module.register_forward_hook(lambda _, __, out, at=at: ones(out, at)).remove)
            before_call(hooks, block.module, partial(enter, layer))
        after_call(hooks, adapter.final_norm, done)
        run_plain(adapter, torch.zeros(len(rows) + 1, 1, dtype=torch.long, device=adapter.device))
    (stream,) = final
    found = {place: _factor(stream[row] - stream[0]) for place, row in rows.items()}
    return Reaches(
        [found[layer, 0] for layer in range(adapter.n_layers)],
        [[found[layer, number] for number in range(1, len(modules))] for layer, modules in enumerate(parts)],
        [*(found[layer, -1] for layer in range(adapter.n_layers)), 1.0],
    )


def _zeros(out: Any) -> Any:
    if isinstance(out, tuple):
        return tuple(_zeros(one) for one in out)
    return torch.zeros_like(out) if isinstance(out, Tensor) else out


def _factor(values: Float[Tensor, " d_model"]) -> Factor:
    """A factor by dimension; one number where they are the same but for rounding."""
    mean = float(values.double().mean())
    mean = 1.0 if abs(mean - 1) < _SAME else mean
    return mean if bool((values - mean).abs().max() < _SAME * abs(mean)) else values
