"""Measure prompts: one clean forward, then every selected head ablated in every way of the run."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfrepair.ingest.checks.numerics import check_clean_forward, check_effects
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation, Replacements, ablate
from selfrepair.ingest.engine.attention_calls import AttentionCalls, record_calls
from selfrepair.ingest.engine.clean_kv import clean_kv_forward
from selfrepair.ingest.engine.forward import (
    CleanBatch,
    clean_batch,
    clean_layers,
    direct_effects,
    embed,
    head_values,
    padded,
    value_biases,
)
from selfrepair.ingest.engine.memory import BatchSize
from selfrepair.ingest.engine.precision import float64_sum
from selfrepair.ingest.engine.unembedding import mean_unembedding
from selfrepair.ingest.mechanisms.co_ablation import co_ablated
from selfrepair.ingest.mechanisms.observers import Observers
from selfrepair.ingest.mechanisms.self_repression import (
    SEQUENCES_ABOVE,
    SelfRepression,
    join_self_repression,
    later_half,
    measure_self_repression,
    other_head,
    random_vectors,
)
from selfrepair.ingest.mechanisms.top_rows import TopRows, TopRowsSearch
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measured import Measured, join_measured
from selfrepair.ingest.text.targets import PredictionTargets

PROMPTS_AT_ONCE = 8
"""Prompts that share a clean forward; further sequences of a stack are further heads."""

MOST_PROMPTS_AT_ONCE = 64
"""Bound on the same where few heads are ablated: a clean forward keeps z and the stream of every layer."""


class Measurer:
    """Measures prompts on a model by the settings of a run.

    `batch_size` is how many sequences go through a layer at once; it is halved for good when memory runs out, and never
    changes a result. Set `means` (z of every head averaged over the reference prompts) before mean ablation, `top_rows`
    (each head's top 2 %, of the settings' `top_populations`) before edges, neurons and experts.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        settings: RunSettings,
        *,
        batch_size: int,
        on_halved: Callable[[int], None] = lambda batch_size: None,
    ) -> None:
        self.adapter = adapter
        self.settings = settings
        self.head_ablations = _head_ablations(settings.heads, settings.ablations)
        self.means: Float[Tensor, "layer head d_head"] | None = None
        self.top_rows: TopRows | None = None
        self._batch_size = BatchSize(batch_size, adapter.device, on_halved)
        self._neuron_layers = settings.mechanisms.neuron_layers(adapter)
        self._routed_layers = settings.mechanisms.routed_layers(adapter)
        self._given = _head_ablations(settings.given, settings.ablations)
        self._mean_unembedding = mean_unembedding(adapter)
        self._calls: dict[int, AttentionCalls] = {}
        self._value_biases: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """How many sequences go through a layer at once."""
        return self._batch_size.size

    @torch.inference_mode()
    def measure(
        self,
        targets: PredictionTargets,
        partner_inputs: Int[Tensor, "prompt input"] | None,
        prompt_ids: Sequence[int],
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Measured:
        """All head ablations on the prompts of `targets`, which resample ablation pairs with `partner_inputs`.

        `on_rows` gets the number of rows of every finished stack, and a negative one for rows that are measured again.
        Raises SelfRepairError for a NaN or infinity in a forward, or an identity error above the precision's bound, naming
        prompt and layer; and when not even one sequence fits into memory.
        """
        batches: list[Measured] = []

        def measure_batch(here: slice) -> None:
            n_rows = 0

            def count(rows: int) -> None:
                nonlocal n_rows
                n_rows += rows
                on_rows(rows)

            partners = None if partner_inputs is None else partner_inputs[here]
            try:
                batches.append(self._measure_batch(targets[here], partners, prompt_ids[here], count))
            except (MemoryError, RuntimeError):
                on_rows(-n_rows)
                raise

        self._batch_size.for_each_batch(len(targets), self._prompts_at_once, measure_batch)
        return join_measured(batches)

    @torch.inference_mode()
    def head_value_sums(self, tokens: Int[Tensor, "prompt seq"]) -> Float[Tensor, "layer head d_head"]:
        """Z of every head summed over prompts and positions, the unmeasured last position too, in float64."""
        adapter = self.adapter
        sums = torch.zeros(adapter.n_layers, adapter.n_heads, adapter.d_head, dtype=torch.float64)

        def add_batch(here: slice) -> None:
            batch = tokens[here].to(adapter.device)
            calls = self._calls_for(batch.shape[1]).of_prompts(adapter, batch)
            layers = clean_layers(adapter, embed(adapter, batch), calls)
            sums.add_(torch.stack([padded(float64_sum(layer.z, (0, 1)), adapter) for layer in layers]))

        self._batch_size.for_each_batch(len(tokens), _clean_prompts_at_once, add_batch)
        return sums

    @torch.inference_mode()
    def find_top_rows(
        self,
        search: TopRowsSearch,
        targets: PredictionTargets,
        partner_inputs: Int[Tensor, "prompt input"] | None,
        prompt_ids: Sequence[int],
    ) -> None:
        """Give `search` the direct effects of the run's heads on the prompts of `targets`, measured as `measure` does."""
        adapter = self.adapter
        layers, numbers = (torch.tensor(part, device=adapter.device) for part in zip(*self.settings.heads, strict=True))

        def search_batch(here: slice) -> None:
            batch = targets[here].to(adapter.device)
            calls = self._calls_for(batch.inputs.shape[1])
            with contextlib.ExitStack() as ablated:
                if self._given:
                    partners = None if partner_inputs is None else partner_inputs[here]
                    ablated.enter_context(co_ablated(adapter, self._given, self._replacements(calls, partners)))
                effects = direct_effects(adapter, calls, self._mean_unembedding, self.value_biases(), batch)
            search.add(prompt_ids[here], effects[layers, numbers], batch.first_position)

        self._batch_size.for_each_batch(len(targets), _clean_prompts_at_once, search_batch)

    @torch.inference_mode()
    def value_biases(self) -> Float[Tensor, "layer head d_head"]:
        """The constant part of every head's z (`forward.value_biases`), on the model's device."""
        if self._value_biases is None:
            self._value_biases = value_biases(self.adapter, self._calls_for(2))
        return self._value_biases

    def _measure_batch(
        self,
        targets: PredictionTargets,
        partner_inputs: Tensor | None,
        prompt_ids: Sequence[int],
        on_rows: Callable[[int], None],
    ) -> Measured:
        calls = self._calls_for(targets.inputs.shape[1])
        replacements = self._replacements(calls, partner_inputs)
        with co_ablated(self.adapter, self._given, replacements):
            return self._measure_heads(calls, targets.to(self.adapter.device), replacements, prompt_ids, on_rows)

    def _replacements(self, calls: AttentionCalls, partner_inputs: Tensor | None) -> Replacements:
        mean, partner = None, None
        if self.means is not None:
            mean = self.means.to(self.adapter.device, self.adapter.layer_dtype)
        if "resample" in self.settings.ablations:
            if partner_inputs is None:
                raise ValueError("resample ablation needs partner prompts")
            partner = head_values(self.adapter, calls, partner_inputs.to(self.adapter.device))
        return Replacements(self.value_biases(), mean, partner)

    def _measure_heads(
        self,
        calls: AttentionCalls,
        targets: PredictionTargets,
        replacements: Replacements,
        prompt_ids: Sequence[int],
        on_rows: Callable[[int], None],
    ) -> Measured:
        mechanisms = self.settings.mechanisms
        if mechanisms.need_top_rows and self.top_rows is None:
            raise ValueError("edges, neurons and experts need each head's top rows")
        clean = clean_batch(
            self.adapter,
            calls,
            self._mean_unembedding,
            targets,
            keep_activations=self._neuron_layers,
            keep_routing=self._routed_layers,
            logit_lens=mechanisms.logit_lens,
        )
        check_clean_forward(clean, prompt_ids)
        observers = Observers(self.adapter, clean, targets, mechanisms)
        heads_at_once = max(1, self.batch_size // len(targets))
        effects = torch.empty(
            len(self.head_ablations), *targets.ids.shape, len(EFFECTS), dtype=self.adapter.stream_dtype, device="cpu"
        )
        done = 0
        for stack in _stacks(self.head_ablations, heads_at_once):
            top = self._top(stack, prompt_ids, targets.n_positions)
            of_stack = observers.of_stack(stack, top, replacements.value_bias)
            part = ablate(self.adapter, clean, replacements, stack, of_stack).cpu()
            check_effects(part, stack, prompt_ids, self.settings.precision)
            observers.collect(done)
            effects[done : done + len(stack)] = part
            done += len(stack)
            on_rows(part[..., 0].numel())
        return Measured(
            self.head_ablations,
            effects,
            clean.prediction.cpu(),
            clean.scale.cpu(),
            targets.first_position,
            edges=observers.edges(),
            neurons=observers.neurons(),
            experts=observers.experts(),
            logit_lens=[lens.cpu() for lens in clean.logit_lens],
            logprobs=observers.logprobs(),
            self_repression=self._self_repression(calls, clean, targets.inputs, prompt_ids),
        )

    def _self_repression(
        self, calls: AttentionCalls, clean: CleanBatch, inputs: Tensor, prompt_ids: Sequence[int]
    ) -> SelfRepression | None:
        """In batches small enough that a forward through the layers is no larger than a stack of ablated heads."""
        adapter, settings = self.adapter, self.settings
        heads = later_half(settings.heads, adapter.n_layers) if settings.mechanisms.self_repression else []
        if not heads:
            return None
        other_heads = {
            head: other_head(head, adapter.blocks[head[0]].n_heads, settings.seed, settings.given) for head in heads
        }
        batches = []
        # The replacements of co-ablated heads are those of the whole batch.
        size = len(inputs) if self._given else max(1, self.batch_size // SEQUENCES_ABOVE)
        for start in range(0, len(inputs), size):
            here = slice(start, start + size)
            forward = clean_kv_forward(adapter, calls, inputs[here])
            drawn = random_vectors(forward.final_stream[0], prompt_ids[here], settings.seed)
            batches.append(
                measure_self_repression(
                    forward, other_heads, clean.logit_directions[here], self.value_biases(), drawn, self.batch_size
                )
            )
        return join_self_repression(batches)

    def _top(self, stack: Sequence[HeadAblation], prompt_ids: Sequence[int], n_positions: int) -> Tensor | None:
        """Which rows of a stack are in the tops of its ablated heads, [population, ablated, prompt, pos]."""
        if self.top_rows is None:
            return None
        masks = [self.top_rows.mask((ablated.layer, ablated.head), prompt_ids, n_positions) for ablated in stack]
        return torch.stack(masks, dim=1).to(self.adapter.device)

    def _prompts_at_once(self, batch_size: int) -> int:
        return prompts_at_once(self.head_ablations, batch_size)

    def _calls_for(self, seq_len: int) -> AttentionCalls:
        if seq_len not in self._calls:
            self._calls[seq_len] = record_calls(self.adapter, seq_len)
        return self._calls[seq_len]


def prompts_at_once(head_ablations: Sequence[HeadAblation], batch_size: int) -> int:
    """How many prompts share a clean forward: the fewer heads are ablated, the more."""
    in_a_layer = max(sum(1 for _ in group) for _, group in _by_layer(head_ablations))
    return min(MOST_PROMPTS_AT_ONCE, max(_clean_prompts_at_once(batch_size), batch_size // in_a_layer))


def _clean_prompts_at_once(batch_size: int) -> int:
    return min(PROMPTS_AT_ONCE, batch_size)


def _head_ablations(heads: Sequence[tuple[int, int]], ablations: Sequence[str]) -> list[HeadAblation]:
    return [HeadAblation(layer, head, ablation) for layer, head in heads for ablation in ablations]


def _by_layer(head_ablations: Sequence[HeadAblation]) -> Iterable[tuple[int, Iterable[HeadAblation]]]:
    return itertools.groupby(head_ablations, key=lambda ablated: ablated.layer)


def _stacks(head_ablations: Sequence[HeadAblation], heads_at_once: int) -> Iterable[list[HeadAblation]]:
    """The head ablations in order, in stacks of one layer each."""
    for _, of_layer in _by_layer(head_ablations):
        group = list(of_layer)
        for start in range(0, len(group), heads_at_once):
            yield group[start : start + heads_at_once]
