"""Which neurons repair: the direct effect of each neuron of an MLP, clean and ablated, in a head's top 2 % rows, of all
rows and of those after position 0. A row in both tops is read once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation, Observer
from selfrepair.ingest.engine.forward import CleanBatch
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.engine.projection import project, through_norm
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.models.structure.additions import times
from selfrepair.warehouse.schema import CHANGE_SHARES, EFFECT_STEP, NEURONS_KEPT, NEURONS_RANKED

ROWS_AT_ONCE = 1024
"""Most rows whose neurons are held at once."""

SUMS = ("n_rows", "direct_effect", "change", "absolute_change", "positive_change", "anti_erasure", "n_changed")
"""Columns of `neuron_sums`, in the order of `NeuronChanges.sums`."""


LARGEST = ("largest_changes", "largest_repairs", "change_shares", "repair_shares")
"""Columns of `neuron_curves`, in the order of `NeuronChanges.largest`."""


@dataclass(frozen=True)
class NeuronChanges:
    """The rows' largest changes, and sums over all neurons; on the CPU. One of the last axes runs over the measured MLPs.

    `rows` are (head ablation, prompt, pos), prompts counted within the batch; `members` [row, population] says in which
    tops they are; `effects` the clean and the ablated effect of the row's `neurons` of the largest |change|, in that order
    [logits]; `measured` says which MLPs lie above the ablated head. Sums are by (head ablation, population, MLP): `exceed`
    counts rows whose nth largest |change|, and then whose nth highest change, is above each of `schema.CHANGE_SHARES` of
    the head's |direct effect|, `largest` sums `LARGEST`, `sums` has `SUMS` (float64).
    """

    rows: Tensor
    members: Tensor
    neurons: Tensor
    effects: Tensor
    measured: Tensor
    exceed: Tensor
    largest: Tensor
    sums: Tensor

    def after(self, n_prompts: int) -> "NeuronChanges":
        """The same, with prompts counted on from `n_prompts` prompts of earlier batches."""
        rows = self.rows.clone()
        rows[:, 1] += n_prompts
        return replace(self, rows=rows)


def join_batches(batches: Sequence[NeuronChanges]) -> NeuronChanges:
    """Batches of the same head ablations as one: their sums are added."""
    return _joined(batches, lambda sums: torch.stack(sums).sum(dim=0))


def join_stacks(stacks: Sequence[NeuronChanges]) -> NeuronChanges:
    """Consecutive stacks of head ablations as one: their sums are concatenated."""
    return _joined(stacks, torch.cat)


def _joined(parts: Sequence[NeuronChanges], join_sums: Callable[[list[Tensor]], Tensor]) -> NeuronChanges:
    def each(name: str) -> list[Tensor]:
        return [getattr(part, name) for part in parts]

    return NeuronChanges(
        *(torch.cat(each(name)) for name in ("rows", "members", "neurons", "effects", "measured")),
        *(join_sums(each(name)) for name in ("exceed", "largest", "sums")),
    )


class NeuronObserver(Observer):
    """Reads the neurons of one stack in the MLPs of `layers`; `top` marks the rows in the ablated heads' tops."""

    def __init__(
        self,
        adapter: ModelAdapter,
        clean: CleanBatch,
        layers: Sequence[int],
        stack: Sequence[HeadAblation],
        top: Bool[Tensor, "population ablated batch pos"],
        value_bias: Float[Tensor, "layer head d_head"],
    ) -> None:
        self._adapter = adapter
        self._clean = clean
        self._layers = list(layers)
        self._ablated, self._prompt, self._pos = top.any(dim=0).nonzero(as_tuple=True)
        self._members = top[:, self._ablated, self._prompt, self._pos]
        self._direct = self._direct_effects(stack, value_bias)
        n_rows, device, dtype = len(self._ablated), top.device, clean.scale.dtype
        widths = [adapter.neuron_output_weight(layer).shape[0] for layer in layers]
        self._kept, self._ranked = min(NEURONS_KEPT, *widths), min(NEURONS_RANKED, *widths)
        by_row = n_rows, len(layers)
        self._neurons = torch.zeros(*by_row, self._kept, dtype=torch.int32, device=device)
        self._effects = torch.zeros(*by_row, self._kept, 2, dtype=dtype, device=device)
        self._measured = torch.zeros(by_row, dtype=torch.bool, device=device)
        by_head = top.shape[1], len(top), len(layers)
        self._exceed = torch.zeros(*by_head, self._ranked, 2 * len(CHANGE_SHARES), dtype=dtype, device=device)
        self._largest = torch.zeros(*by_head, self._ranked, len(LARGEST), dtype=dtype, device=device)
        self._sums = torch.zeros(*by_head, len(SUMS), dtype=dtype, device=device)

    def on_mlp(
        self,
        layer: int,
        dla_change: Tensor,
        activations: Float[Tensor, "ablated batch pos neuron"] | None,
        rescaled: Float[Tensor, "ablated batch pos"] | None,
    ) -> None:
        """Read the neurons of an MLP whose activations are kept, with each forward's own post-norm."""
        if activations is not None:
            for rows in torch.arange(len(self._ablated), device=self._ablated.device).split(ROWS_AT_ONCE):
                self._read(layer, rows, activations, rescaled)

    def changes(self, first: int) -> NeuronChanges:
        """The rows and sums of this stack, whose head ablations are numbered from `first`."""
        return NeuronChanges(
            rows=torch.stack([self._ablated + first, self._prompt, self._pos], dim=-1).cpu(),
            members=self._members.T.cpu(),
            neurons=self._neurons.cpu(),
            effects=self._effects.cpu(),
            measured=self._measured.cpu(),
            exceed=self._exceed.cpu().double(),
            largest=self._largest.cpu().double(),
            sums=self._sums.cpu().double(),
        )

    def _direct_effects(self, stack: Sequence[HeadAblation], value_bias: Tensor) -> Float[Tensor, " row"]:
        """The clean direct effect of each row's ablated head [logits]."""
        layer, clean = stack[0].layer, self._clean
        head = torch.tensor([ablated.head for ablated in stack], device=self._ablated.device)[self._ablated]
        z, dtype, block = clean.z[layer], clean.scale.dtype, self._adapter.blocks[layer]
        *_, head = places = tuple(index.to(z.device) for index in (self._prompt, self._pos, head))
        bias = value_bias[layer, :, : z.shape[-1]].to(z.device, dtype)
        if block.mixing is None:
            own = z[:, clean.measured][places].to(dtype) - bias[head]
        else:
            own = block.mixing.seen(z.to(dtype) - bias[: z.shape[-2]])[:, clean.measured][places]
        of_rows = project(own, clean.head_directions[layer][places]).to(clean.scale.device)
        return of_rows / clean.scale[self._prompt, self._pos]

    def _read(self, layer: int, rows: Tensor, activations: Tensor, rescaled: Tensor | None) -> None:
        number = self._layers.index(layer)
        clean, dtype = self._clean, self._clean.scale.dtype
        block, scale = self._adapter.blocks[layer], clean.mlp_scale[layer]
        here, home = block.device, clean.scale.device
        ablated, prompt, pos = (index[rows].to(here) for index in (self._ablated, self._prompt, self._pos))
        directions = through_norm(
            times(clean.directions_on[here][prompt, pos], block.mlp_reach),
            block.mlp_post_shape,
            None if scale is None else scale[:, clean.measured][prompt, pos],
            block.mlp_addition.times,
        )
        with full_precision():
            weight = directions @ self._adapter.neuron_output_weight(layer).to(dtype).T
        weight /= clean.scale.to(here)[prompt, pos, None]
        before = clean.activations[layer][prompt, pos].to(dtype) * weight
        after = activations[ablated, prompt, pos].to(dtype) * weight
        if rescaled is not None:
            after *= rescaled[ablated, prompt, pos, None]
        change = after - before
        size = change.abs()
        largest, neurons = size.topk(self._ranked, dim=-1)
        kept = neurons[:, : self._kept]
        kept_before = before.gather(-1, kept)
        effects = torch.stack([kept_before, kept_before + change.gather(-1, kept)], dim=-1)
        self._neurons[rows, number], self._effects[rows, number] = kept.int().to(home), effects.to(home)
        self._measured[rows, number] = True

        direct = self._direct[rows].to(here)
        shares = torch.tensor(list(CHANGE_SHARES.values()), dtype=dtype, device=direct.device)
        highest = change.topk(self._ranked, dim=-1).values
        exceed = torch.cat(
            [nth[..., None] > shares * direct.abs()[:, None, None] for nth in (largest, highest)], dim=-1
        )
        up = change.clamp_min(0)
        parts = [
            nth / total[:, None].clamp_min(torch.finfo(dtype).tiny)
            for nth, total in ((largest, size.sum(-1)), (highest.clamp_min(0), up.sum(-1)))
        ]
        sums = [torch.ones_like(direct), direct, change.sum(-1), size.sum(-1), up.sum(-1), (up * (before < 0)).sum(-1)]
        sums.append((largest[:, 0] >= EFFECT_STEP / 2).to(dtype))
        by_row = (
            (self._exceed, exceed.to(dtype)),
            (self._largest, torch.stack([largest, highest, *parts], dim=-1)),
            (self._sums, torch.stack(sums, dim=-1)),
        )
        for population, is_member in enumerate(self._members[:, rows]):
            (mine,) = is_member.nonzero(as_tuple=True)
            for total, values in by_row:
                total[:, population, number].index_add_(0, self._ablated[rows][mine], values.to(home)[mine])
