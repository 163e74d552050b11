"""Measure prompts: one clean forward, then every selected head ablated in every asked way."""

import contextlib
import functools
import gc
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.conventions import EFFECTS, PRECISIONS, Precision, head_label
from selfrepair.ingest.engine.ablation import Cell, Replacements, ablate, identity_error
from selfrepair.ingest.engine.clean import CleanBatch, clean_batch, direct_effects, head_values
from selfrepair.ingest.engine.clean_kv import pin
from selfrepair.ingest.engine.forward import AttentionCalls, clean_layers, embed, record_calls, value_biases
from selfrepair.ingest.engine.precision import float64_sum
from selfrepair.ingest.engine.unembedding import Prediction, mean_unembedding
from selfrepair.ingest.mechanisms.co_ablation import given_ablated
from selfrepair.ingest.mechanisms.edges import EdgeSums
from selfrepair.ingest.mechanisms.neurons import NeuronChanges, of_batches
from selfrepair.ingest.mechanisms.observers import Onlookers
from selfrepair.ingest.mechanisms.self_repression import (
    RUN_UP,
    SelfRepression,
    fed_heads,
    joined_self_repression,
    measure_self_repression,
)
from selfrepair.ingest.mechanisms.top_rows import TopRows, TopRowsSearch
from selfrepair.ingest.models.adapter import Atlas
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.text.targets import Asked
from selfrepair.warehouse.errors import SelfRepairError

PROMPTS_AT_ONCE = 8
"""Prompts that share a clean forward; further sequences of a stack are further heads."""

MOST_PROMPTS_AT_ONCE = 64
"""Bound on the same where few heads are ablated: a clean forward keeps z and the stream of every layer."""


@dataclass(frozen=True)
class Measured:
    """The effects of every cell on some prompts, their clean predictions, and the mechanisms that were asked for;
    everything on the CPU. Positions count from `first_position` on, `logit_lens` run over layers.
    """

    cells: list[Cell]
    effects: Float[Tensor, "cell prompt pos effect"]
    prediction: Prediction
    scale: Float[Tensor, "prompt pos"]
    first_position: int
    edges: EdgeSums | None = None
    neurons: NeuronChanges | None = None
    logit_lens: Sequence[Prediction] = ()
    logprobs: Float[Tensor, "cell prompt pos measure"] | None = None
    self_repression: SelfRepression | None = None

    def identity_error_max(self) -> float:
        """The largest |R - sum of its parts| in logits."""
        return float(identity_error(self.effects).max())


class Measurer:
    """A model ready to be measured.

    `batch_size` is how many sequences go through a layer at once; it is halved for good when memory runs out, and
    never changes a result. `means` (z of every head averaged over the reference prompts) is needed for mean ablation,
    `top_rows` (each head's top 2 %) for edges and neurons. The heads `given` are ablated in every forward that is measured.
    `seed` decides self_repression's controls.
    """

    def __init__(
        self,
        atlas: Atlas,
        *,
        ablations: Sequence[str],
        heads: Sequence[tuple[int, int]],
        batch_size: int,
        precision: Precision = PRECISIONS["float32"],
        means: Float[Tensor, "layer head d_head"] | None = None,
        mechanisms: Mechanisms = Mechanisms(),  # noqa: B008 - it is frozen
        top_rows: TopRows | None = None,
        given: Sequence[tuple[int, int]] = (),
        seed: int = 0,
        on_halved: Callable[[int], None] = lambda batch_size: None,
    ) -> None:
        self.atlas = atlas
        self.cells = [Cell(layer, head, ablation) for layer, head in sorted(heads) for ablation in ablations]
        self.batch_size = batch_size
        self.means = means
        self.top_rows = top_rows
        self._mechanisms = mechanisms
        self._neuron_layers = mechanisms.neuron_layers(atlas)
        self._fed_heads = fed_heads(sorted(heads), atlas.n_layers) if mechanisms.self_repression else []
        self._seed = seed
        self._given = [Cell(layer, head, ablation) for layer, head in given for ablation in ablations]
        self._resample = "resample" in ablations
        self._precision = precision
        self._on_halved = on_halved
        self._mean_unembedding = mean_unembedding(atlas)
        self._calls: dict[int, AttentionCalls] = {}
        self._value_biases: Tensor | None = None

    @torch.inference_mode()
    def measure(
        self,
        asked: Asked,
        partner_inputs: Int[Tensor, "prompt input"] | None,
        prompt_ids: Sequence[int],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Measured:
        """All cells on the prompts of `asked`, which resample ablation pairs with `partner_inputs`.

        `on_rows` hears of every finished stack. Raises SelfRepairError for a NaN or infinity in a forward, or an
        identity error above the precision's bound, naming prompt and layer; and when not even one sequence fits.
        """
        pieces, start = [], 0
        while start < len(asked):
            stop = start + self._prompts_at_once(len(asked) - start)
            rows_told = 0

            def tell(rows: int) -> None:
                nonlocal rows_told
                rows_told += rows
                on_rows(rows)

            try:
                partners = None if partner_inputs is None else partner_inputs[start:stop]
                pieces.append(self._measure_batch(asked[start:stop], partners, prompt_ids[start:stop], tell))
                start = stop
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            on_rows(-rows_told)
            self._halve()  # outside the handler, whose error holds on to the tensors
        return _joined(pieces)

    @torch.inference_mode()
    def head_value_sums(self, tokens: Int[Tensor, "prompt seq"]) -> Float[Tensor, "layer head d_head"]:
        """Z of every head summed over prompts and positions, the unmeasured last position too, in float64."""
        atlas, start = self.atlas, 0
        sums = torch.zeros(atlas.n_layers, atlas.n_heads, atlas.d_head, dtype=torch.float64)
        while start < len(tokens):
            batch = tokens[start : start + min(PROMPTS_AT_ONCE, self.batch_size)].to(atlas.device)
            try:
                layers = clean_layers(atlas, embed(atlas, batch), self._calls_for(batch.shape[1]))
                sums += torch.stack([float64_sum(layer.z, (0, 1)) for layer in layers])
                start += len(batch)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            self._halve()
        return sums

    @torch.inference_mode()
    def find_top_rows(
        self,
        search: TopRowsSearch,
        heads: Sequence[tuple[int, int]],
        asked: Asked,
        partner_inputs: Int[Tensor, "prompt input"] | None,
        prompt_ids: Sequence[int],
    ) -> None:
        """Give `search` the direct effects of `heads` on the prompts of `asked`, measured as `measure` does."""
        atlas, start = self.atlas, 0
        layers, numbers = (torch.tensor(part, device=atlas.device) for part in zip(*heads, strict=True))
        while start < len(asked):
            here = slice(start, start + min(PROMPTS_AT_ONCE, self.batch_size))
            batch = asked[here].to(atlas.device)
            calls = self._calls_for(batch.inputs.shape[1])
            try:
                partners = None if partner_inputs is None or not self._given else partner_inputs[here]
                replacements = self._replacements(calls, partners) if self._given else None
                with given_ablated(atlas, self._given, replacements) if replacements else contextlib.nullcontext():
                    effects = direct_effects(atlas, calls, self._mean_unembedding, self.value_biases(), batch)
                search.add(prompt_ids[here], effects[layers, numbers])
                start += len(batch)
                continue
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
            self._halve()

    def _measure_batch(
        self, asked: Asked, partner_inputs: Tensor | None, prompt_ids: Sequence[int], on_rows: Callable[[int], None]
    ) -> Measured:
        calls = self._calls_for(asked.inputs.shape[1])
        replacements = self._replacements(calls, partner_inputs)
        with given_ablated(self.atlas, self._given, replacements):
            return self._measure_given(calls, asked.to(self.atlas.device), replacements, prompt_ids, on_rows)

    def _replacements(self, calls: AttentionCalls, partner_inputs: Tensor | None) -> Replacements:
        partner = None
        if self._resample:
            if partner_inputs is None:
                raise ValueError("resample ablation needs partner prompts")
            partner = head_values(self.atlas, calls, partner_inputs.to(self.atlas.device))
        return Replacements(self.value_biases(), self._device_means(), partner)

    def _measure_given(
        self,
        calls: AttentionCalls,
        asked: Asked,
        replacements: Replacements,
        prompt_ids: Sequence[int],
        on_rows: Callable[[int], None],
    ) -> Measured:
        if self._mechanisms.need_top_rows and self.top_rows is None:
            raise ValueError("edges and neurons need each head's top rows")
        clean = clean_batch(
            self.atlas,
            calls,
            self._mean_unembedding,
            asked,
            keep_activations=self._neuron_layers,
            logit_lens=self._mechanisms.logit_lens,
        )
        _refuse_non_finite(torch.stack([*clean.attention_reads, *clean.mlp_reads]), prompt_ids, self.atlas.n_layers)
        looking_on = Onlookers(self.atlas, clean, asked, self._mechanisms, self._neuron_layers)
        heads_at_once = max(1, self.batch_size // len(asked))
        effects = torch.empty(
            len(self.cells), *asked.targets.shape, len(EFFECTS), dtype=self.atlas.stream_dtype, device="cpu"
        )
        done = 0
        for stack in _stacks(self.cells, heads_at_once):
            watchers = looking_on.watch(stack, self._top(stack, prompt_ids, asked.n_positions), replacements.value_bias)
            part = ablate(self.atlas, calls, clean, replacements, stack, watchers).cpu()
            self._check(part, stack, prompt_ids)
            looking_on.keep(done)
            effects[done : done + len(stack)] = part
            done += len(stack)
            on_rows(part[..., 0].numel())
        return Measured(
            self.cells,
            effects,
            _on_cpu(clean.prediction),
            clean.scale.cpu(),
            asked.first_position,
            edges=looking_on.edges(),
            neurons=looking_on.neurons(),
            logit_lens=[_on_cpu(layer_read) for layer_read in clean.logit_lens],
            logprobs=looking_on.logprobs(),
            self_repression=self._self_repression(calls, clean, asked.inputs, prompt_ids),
        )

    def _self_repression(
        self, calls: AttentionCalls, clean: CleanBatch, inputs: Tensor, prompt_ids: Sequence[int]
    ) -> SelfRepression | None:
        """Prompts at once so that what runs through the layers is no larger than a stack of ablated heads."""
        if not self._fed_heads:
            return None
        pieces = []
        # The given heads' replacements are those of the whole batch.
        size = len(inputs) if self._given else max(1, self.batch_size // RUN_UP)
        for start in range(0, len(inputs), size):
            here = slice(start, start + size)
            pieces.append(
                measure_self_repression(
                    pin(self.atlas, calls, inputs[here]),
                    self._fed_heads,
                    clean.directions[here],
                    self.value_biases(),
                    prompt_ids[here],
                    seed=self._seed,
                    batch_size=self.batch_size,
                    gone=[(cell.layer, cell.head) for cell in self._given],
                )
            )
        return joined_self_repression(pieces)

    def _top(self, stack: Sequence[Cell], prompt_ids: Sequence[int], n_positions: int) -> Tensor | None:
        """Which rows of a stack are in the top 2 % of its ablated heads."""
        if self.top_rows is None:
            return None
        masks = [self.top_rows.mask((cell.layer, cell.head), prompt_ids, n_positions) for cell in stack]
        return torch.stack(masks).to(self.atlas.device)

    def _check(self, effects: Tensor, stack: list[Cell], prompt_ids: Sequence[int]) -> None:
        errors = identity_error(effects)
        if bool((errors <= self._precision.identity).all()):  # false for NaN too
            return
        for cell, of_cell, error in zip(stack, effects, errors, strict=True):
            bad_rows = ~of_cell.isfinite().all(dim=-1)
            label = head_label(cell.layer, cell.head)
            if bool(bad_rows.any()):
                prompt, pos = bad_rows.nonzero()[0].tolist()
                raise SelfRepairError(
                    f"NaN or infinity after {cell.ablation} ablation of {label} (layer {cell.layer}), prompt "
                    f"{prompt_ids[prompt]}, position {pos}. Nothing of this unit was stored. "
                    "Try --dtype float32, and check the model's weights."
                )
            if float(error.max()) > self._precision.identity:
                prompt, pos = divmod(int(error.argmax()), error.shape[1])
                raise SelfRepairError(
                    f"the identity R = LayerNorm + attention + MLP fails by {float(error.max()):.2g} logits (allowed "
                    f"{self._precision.identity:g}) for {cell.ablation} ablation of {label}, prompt {prompt_ids[prompt]}, "
                    f"position {pos}. Nothing of this unit was stored. If --dtype float64 passes, it is rounding of "
                    "very large activations; if not, please report the model."
                )

    def _prompts_at_once(self, left: int) -> int:
        cells_of_a_layer = max(sum(1 for _ in group) for _, group in itertools.groupby(self.cells, lambda c: c.layer))
        wanted = max(min(PROMPTS_AT_ONCE, self.batch_size), self.batch_size // cells_of_a_layer)
        return min(left, wanted, MOST_PROMPTS_AT_ONCE)

    def _halve(self) -> None:
        if self.batch_size == 1:
            raise SelfRepairError(
                f"not even one sequence fits into the memory of {self.atlas.device}. Try a shorter --seq-len, "
                "--dtype bfloat16, or a device with more memory."
            )
        self.batch_size //= 2
        gc.collect()
        if self.atlas.device.type == "cuda":
            torch.cuda.empty_cache()
        self._on_halved(self.batch_size)

    def _calls_for(self, seq_len: int) -> AttentionCalls:
        if seq_len not in self._calls:
            self._calls[seq_len] = record_calls(self.atlas, seq_len)
        return self._calls[seq_len]

    @torch.inference_mode()
    def value_biases(self) -> Float[Tensor, "layer head d_head"]:
        """The constant part of every head's z (`stream.value_biases`), on the model's device."""
        if self._value_biases is None:
            self._value_biases = value_biases(self.atlas, self._calls_for(2))
        return self._value_biases

    def _device_means(self) -> Tensor | None:
        return None if self.means is None else self.means.to(self.atlas.device, self.atlas.layer_dtype)


def _joined(pieces: Sequence[Measured]) -> Measured:
    """The batches of one unit as one."""
    edges = [piece.edges for piece in pieces if piece.edges is not None]
    logprobs = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    self_repression = [piece.self_repression for piece in pieces if piece.self_repression is not None]
    starts = itertools.accumulate((piece.effects.shape[1] for piece in pieces), initial=0)
    neurons = [
        piece.neurons.after(start) for piece, start in zip(pieces, starts, strict=False) if piece.neurons is not None
    ]
    return Measured(
        cells=pieces[0].cells,
        effects=torch.cat([piece.effects for piece in pieces], dim=1),
        prediction=_of_all([piece.prediction for piece in pieces]),
        scale=torch.cat([piece.scale for piece in pieces]),
        first_position=pieces[0].first_position,
        edges=functools.reduce(operator.add, edges) if edges else None,
        neurons=of_batches(neurons) if neurons else None,
        logit_lens=[_of_all(layer) for layer in zip(*(piece.logit_lens for piece in pieces), strict=True)],
        logprobs=torch.cat(logprobs, dim=1) if logprobs else None,
        self_repression=joined_self_repression(self_repression) if self_repression else None,
    )


def _of_all(predictions: Sequence[Prediction]) -> Prediction:
    return Prediction(*(torch.cat(parts) for parts in zip(*map(_fields, predictions), strict=True)))


def _on_cpu(prediction: Prediction) -> Prediction:
    return Prediction(*(field.cpu() for field in _fields(prediction)))


def _stacks(cells: list[Cell], heads_at_once: int) -> Iterable[list[Cell]]:
    """The cells in order, in stacks of one layer each."""
    for _, of_layer in itertools.groupby(cells, key=lambda cell: cell.layer):
        group = list(of_layer)
        for start in range(0, len(group), heads_at_once):
            yield group[start : start + heads_at_once]


def _fields(prediction: Prediction) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return prediction.logit, prediction.logprob, prediction.rank, prediction.entropy


def _refuse_non_finite(reads: Tensor, prompt_ids: Sequence[int], n_layers: int) -> None:
    """`reads` is [attention of every layer, then MLP of every layer; prompt; pos]."""
    bad = ~reads.isfinite()
    if bool(bad.any()):
        order = bad.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
        layer = min(index % n_layers for index in order)
        prompt = int((bad[layer] | bad[layer + n_layers]).any(dim=1).nonzero()[0])
        raise SelfRepairError(
            f"NaN or infinity in the clean forward of prompt {prompt_ids[prompt]}, first in layer {layer}. "
            "Nothing of this unit was stored. Try --dtype float32, and check the model's weights."
        )


def out_of_memory(error: Exception) -> bool:
    """Whether `error` is a device's or the machine's way to say that memory does not suffice."""
    told = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "Invalid buffer size")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in told)
