"""Which neurons repair: what each neuron of an MLP writes, clean and ablated, at a head's top 2 % rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import Cell
from selfrepair.ingest.engine.clean import CleanBatch, read_along
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.models.adapter import Atlas
from selfrepair.warehouse.schema import CHANGE_SHARES, NEURONS_KEPT, NEURONS_RANKED

ROWS_AT_ONCE = 1024
"""Rows whose neurons are held at once."""

SUMS = ("n_rows", "direct_effect", "change", "absolute_change", "positive_change", "anti_erasure")
"""Columns of `neuron_sums`, in the order of `NeuronChanges.sums`."""


@dataclass(frozen=True)
class NeuronChanges:
    """The rows' largest changes, and sums over all neurons; on the CPU. One of the last axes counts the asked MLPs.

    `rows` are (cell, prompt, pos) of each row, prompts counted within the batch; `effects` the clean and the ablated
    effect of its `neurons` of the largest |change|, in that order [logits]; `measured` says which MLPs lie above the
    row's ablated head. `exceed` counts rows whose nth largest |change| is above each of `schema.CHANGE_SHARES` of the
    head's |direct effect|, `largest` sums up that |change|, `sums` has `SUMS` (float64).
    """

    rows: Tensor
    neurons: Tensor
    effects: Tensor
    measured: Tensor
    exceed: Tensor
    largest: Tensor
    sums: Tensor

    def after(self, n_prompts: int) -> "NeuronChanges":
        """The same where `n_prompts` prompts come before the batch."""
        rows = self.rows.clone()
        rows[:, 1] += n_prompts
        return NeuronChanges(rows, *(value for name, value in vars(self).items() if name != "rows"))


def of_batches(pieces: Sequence[NeuronChanges]) -> NeuronChanges:
    """Batches of the same cells as one: their sums are added."""
    return _joined(pieces, lambda sums: torch.stack(sums).sum(dim=0))


def of_stacks(pieces: Sequence[NeuronChanges]) -> NeuronChanges:
    """Stacks of cells that follow each other as one: their sums stand one after the other."""
    return _joined(pieces, torch.cat)


def _joined(pieces: Sequence[NeuronChanges], join_sums: Callable[[list[Tensor]], Tensor]) -> NeuronChanges:
    def each(name: str) -> list[Tensor]:
        return [getattr(piece, name) for piece in pieces]

    return NeuronChanges(
        *(torch.cat(each(name)) for name in ("rows", "neurons", "effects", "measured")),
        *(join_sums(each(name)) for name in ("exceed", "largest", "sums")),
    )


class NeuronWatcher:
    """Reads the neurons of one stack in the MLPs of `layers`; `top` says which of its rows are in the heads' top 2 %."""

    def __init__(
        self,
        atlas: Atlas,
        clean: CleanBatch,
        layers: Sequence[int],
        stack: Sequence[Cell],
        top: Bool[Tensor, "cell batch pos"],
        value_bias: Float[Tensor, "layer head d_head"],
    ) -> None:
        self._atlas = atlas
        self._clean = clean
        self._layers = list(layers)
        self._cell, self._prompt, self._pos = top.nonzero(as_tuple=True)
        self._direct = self._direct_effects(stack, value_bias)
        n_rows, device, dtype = len(self._cell), top.device, clean.scale.dtype
        widths = [atlas.neuron_output_weight(layer).shape[0] for layer in layers]
        self._kept, self._ranked = min(NEURONS_KEPT, *widths), min(NEURONS_RANKED, *widths)
        of_rows = n_rows, len(layers)
        self._neurons = torch.zeros(*of_rows, self._kept, dtype=torch.int32, device=device)
        self._effects = torch.zeros(*of_rows, self._kept, 2, dtype=dtype, device=device)
        self._measured = torch.zeros(of_rows, dtype=torch.bool, device=device)
        of_cells = len(top), len(layers)
        self._exceed = torch.zeros(*of_cells, self._ranked, len(CHANGE_SHARES), dtype=dtype, device=device)
        self._largest = torch.zeros(*of_cells, self._ranked, dtype=dtype, device=device)
        self._sums = torch.zeros(*of_cells, len(SUMS), dtype=dtype, device=device)

    def heads(self, layer: int, z: Tensor) -> None:
        """Heads have no neurons."""

    def mlp(self, layer: int, change: Tensor, activations: Float[Tensor, "cell batch pos neuron"] | None) -> None:
        """Read the neurons of an MLP that was asked for."""
        if activations is not None:
            for rows in torch.arange(len(self._cell), device=self._cell.device).split(ROWS_AT_ONCE):
                self._read(layer, rows, activations)

    def end(self, stream: Tensor) -> None:
        """Nothing is read from the final stream."""

    def found(self, first_cell: int) -> NeuronChanges:
        """The rows and sums of this stack, whose cells are counted from `first_cell` on."""
        return NeuronChanges(
            rows=torch.stack([self._cell + first_cell, self._prompt, self._pos], dim=-1).cpu(),
            neurons=self._neurons.cpu(),
            effects=self._effects.cpu(),
            measured=self._measured.cpu(),
            exceed=self._exceed.cpu().double(),
            largest=self._largest.cpu().double(),
            sums=self._sums.cpu().double(),
        )

    def _direct_effects(self, stack: Sequence[Cell], value_bias: Tensor) -> Float[Tensor, " row"]:
        """What the ablated head of each row writes there with nothing ablated [logits]."""
        layer, clean = stack[0].layer, self._clean
        head = torch.tensor([cell.head for cell in stack], device=self._cell.device)[self._cell]
        places = self._prompt, self._pos, head
        own = clean.z[layer][:, clean.measured][places].to(clean.scale.dtype) - value_bias[layer, head].to(
            clean.scale.dtype
        )
        return read_along(own, clean.read_outs[layer][places]) / clean.scale[self._prompt, self._pos]

    def _read(self, layer: int, rows: Tensor, activations: Tensor) -> None:
        number = self._layers.index(layer)
        cell, prompt, pos = self._cell[rows], self._prompt[rows], self._pos[rows]
        clean, dtype = self._clean, self._clean.scale.dtype
        with full_precision():
            weight = clean.directions[prompt, pos] @ self._atlas.neuron_output_weight(layer).to(dtype).T
        weight /= clean.scale[prompt, pos, None]
        before = clean.activations[layer][prompt, pos].to(dtype) * weight
        change = activations[cell, prompt, pos].to(dtype) * weight - before
        size = change.abs()
        largest, neurons = size.topk(self._ranked, dim=-1)
        kept = neurons[:, : self._kept]
        kept_before = before.gather(-1, kept)
        self._neurons[rows, number] = kept.int()
        self._effects[rows, number] = torch.stack([kept_before, kept_before + change.gather(-1, kept)], dim=-1)
        self._measured[rows, number] = True

        direct = self._direct[rows]
        shares = torch.tensor(list(CHANGE_SHARES.values()), dtype=dtype, device=direct.device)
        exceed = largest[..., None] > shares * direct.abs()[:, None, None]
        up = change.clamp_min(0)
        sums = [torch.ones_like(direct), direct, change.sum(-1), size.sum(-1), up.sum(-1), (up * (before < 0)).sum(-1)]
        self._exceed[:, number].index_add_(0, cell, exceed.to(dtype))
        self._largest[:, number].index_add_(0, cell, largest)
        self._sums[:, number].index_add_(0, cell, torch.stack(sums, dim=-1))
