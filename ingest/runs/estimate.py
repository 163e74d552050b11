"""What a run would take, from its plan and a timed probe of each of its stages; nothing is written."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation, Replacements, ablate
from selfrepair.ingest.engine.attention_calls import AttentionCalls, record_calls
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.engine.clean_kv import clean_kv_forward
from selfrepair.ingest.engine.forward import CleanBatch, clean_batch, head_values, value_biases
from selfrepair.ingest.engine.memory import BatchSize, peak_process_mb
from selfrepair.ingest.engine.timing import seconds
from selfrepair.ingest.engine.unembedding import mean_unembedding
from selfrepair.ingest.mechanisms.observers import Observers
from selfrepair.ingest.mechanisms.self_repression import (
    SEQUENCES_PER_PROMPT,
    later_half,
    measure_self_repression,
    random_vectors,
)
from selfrepair.ingest.mechanisms.top_rows import ROWS_TO_ONE
from selfrepair.ingest.runs.crosscheck import Crosscheck, by_prompt, choose_crosschecks, crosscheck
from selfrepair.ingest.runs.estimated_memory import GPUMemory, gpus_memory, measure_one_stack, process_mb
from selfrepair.ingest.runs.mechanism_columns import SELF_REPRESSION_ROWS
from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.ingest.runs.runner import check_model
from selfrepair.ingest.text.targets import PredictionTargets
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema import EDGE_POPULATIONS

FLOOR_BYTES = 15_500_000
"""The size of an almost empty warehouse: every column of every table begins with a block of its own."""

BYTES_PER_HEAD_ABLATION = 16_000
"""About what the summaries of one head under one ablation add, whatever the number of prompts."""

BYTES_PER_ROW = 15.3
"""About the size of a row of `measurements` in the warehouse."""

BYTES_PER_POSITION = 37
"""About what a measured position adds to `tokens` and `prompts`, whatever the number of ablated heads."""

MECHANISM_SHARES = {"edges": 0.02, "neurons_last": 0.18, "neurons_all": 0.74, "logprobs": 0.36}
"""About the size of a mechanism with rows for every ablation, as a share of `measurements`."""

BYTES_PER_LOGIT_LENS_ROW = 11
"""About the size of one position and layer of the logit lens."""

BYTES_OF_SELF_REPRESSION = 60, 9
"""About the size of one prompt's sums of a head, added vector and multiple, and of a single row of these."""

BYTES_OF_EXPERTS = 20, 30
"""About the size of an expert's row and of its MLP's, of which a unit has one for each head ablation and population."""

STORED_ROWS_PER_S = 250_000
"""Rows that are written to part files, loaded and summarised in one second on two cores."""

STORED_POSITIONS_PER_S = 100_000
"""The same for positions, with the texts of their tokens."""

READ_SECONDS = 0.02
"""Seconds in which the cross-check finds the stored rows of one prompt and head."""

PREPARING, MEASURING, LOADING = "means and top rows", "measuring", "writing and loading"
"""Stages of a run that are shared in their own way when workers share it."""

PROBES = 2
PROBED_CROSSCHECKS = 12


@dataclass(frozen=True)
class Estimate:
    """`forwards` counts ablated sequences, each run through the layers above its head only. `seconds` is by stage, of one
    worker.

    `memory_mb` is the peak of RAM of a process, `gpus` that of each of its GPUs.
    `crosscheck_failure` says why the probe of the cross-check failed, which then has no seconds.
    """

    rows: int
    bytes: int
    forwards: int
    batch_size: int
    n_units: int
    seconds: dict[str, float]
    memory_mb: float
    gpus: list[GPUMemory]
    crosscheck_failure: str | None

    def seconds_with(self, n_workers: int) -> float:
        """Of so many workers, each on a device of its own: all wait for what the first one prepares and for the cross-check;
        a unit is one worker's; finished ones are loaded meanwhile.
        """
        if n_workers == 1:
            return sum(self.seconds.values())
        turns = math.ceil(self.n_units / n_workers)
        loading, beside = self.seconds[LOADING], self.seconds.keys() - {MEASURING, LOADING}
        measuring = self.seconds[MEASURING] * turns / self.n_units
        last_load = loading * min(1.0, n_workers / self.n_units)
        return sum(self.seconds[stage] for stage in beside) + max(measuring, loading - last_load) + last_load


def estimate(plan: RunPlan, sequences: int | None, began_at: float) -> Estimate:
    """Rows, bytes, forwards and time of a whole run (all shards), with this many sequences in one forward.

    `began_at` is the `time.perf_counter` of the command's start: start-up takes the run as long as this call.
    """
    check_model(plan)
    adapter, resident_mb = plan.model.adapter, peak_process_mb()
    targets = plan.prompts.targets([len(plan.prompts) - 1]).to(adapter.device)
    seconds_of = {"start-up": time.perf_counter() - began_at}
    batch_size = BatchSize(sequences or auto_batch_size(adapter, plan.prompts.seq_len), adapter.device)
    seconds_of[PREPARING], seconds_of[MEASURING] = _measuring(plan, targets, batch_size)
    measure_one_stack(plan, batch_size.size)
    failure = None
    try:
        seconds_of["cross-check"] = _crosscheck_seconds(plan)
    except SelfRepairError as error:
        failure = str(error)
    rows, positions = plan.record.n_measurements, plan.prompts.n_positions
    seconds_of[LOADING] = rows / STORED_ROWS_PER_S + positions / STORED_POSITIONS_PER_S
    return Estimate(
        rows=rows,
        bytes=round(
            FLOOR_BYTES
            + plan.settings.n_head_ablations * BYTES_PER_HEAD_ABLATION
            + rows * BYTES_PER_ROW
            + positions * BYTES_PER_POSITION
            + _mechanism_bytes(plan)
        ),
        forwards=len(plan.prompts) * plan.settings.n_head_ablations,
        batch_size=batch_size.size,
        n_units=plan.record.n_units,
        seconds={stage: its_seconds for stage, its_seconds in seconds_of.items() if its_seconds},
        memory_mb=process_mb(plan, resident_mb),
        gpus=gpus_memory(adapter),
        crosscheck_failure=failure,
    )


def _mechanism_bytes(plan: RunPlan) -> float:
    n_layers, mechanisms = plan.model.adapter.n_layers, plan.settings.mechanisms
    share = sum(MECHANISM_SHARES.get(name, 0.0) for name in mechanisms.names)
    logit_lens = plan.prompts.n_positions * n_layers if mechanisms.logit_lens else 0
    sequences = (
        len(later_half(plan.settings.heads, n_layers)) * SEQUENCES_PER_PROMPT if mechanisms.self_repression else 0
    )
    per_prompt, per_row = BYTES_OF_SELF_REPRESSION
    self_repression = sequences * (
        len(plan.prompts) * per_prompt + min(plan.prompts.n_positions, SELF_REPRESSION_ROWS) * per_row
    )
    return (
        share * plan.record.n_measurements * BYTES_PER_ROW
        + logit_lens * BYTES_PER_LOGIT_LENS_ROW
        + self_repression
        + _expert_bytes(plan)
    )


def _expert_bytes(plan: RunPlan) -> float:
    """Of the sums of each unit, and of the run's summaries, which have as many rows as a unit."""
    adapter, (per_expert, per_mlp) = plan.model.adapter, BYTES_OF_EXPERTS
    of_layers = {
        layer: (experts.n_experts * per_expert + per_mlp)
        for layer in plan.settings.mechanisms.routed_layers(adapter)
        if (experts := adapter.blocks[layer].experts) is not None
    }
    of_heads = sum(
        size
        for layer, _ in plan.settings.heads
        for above, size in of_layers.items()
        if above >= layer + adapter.parallel_blocks
    )
    return of_heads * len(plan.settings.ablations) * len(EDGE_POPULATIONS) * (plan.record.n_units + 1)


@torch.inference_mode()
def _measuring(plan: RunPlan, targets: PredictionTargets, batch_size: BatchSize) -> tuple[float, float]:
    """Seconds of the forwards before the first unit and of those of all units, from stacks of the lowest and highest layer;
    halves `batch_size` until they fit.

    A stack's time falls linearly with its layer, since only the layers above run.
    """
    adapter = plan.model.adapter
    calls = record_calls(adapter, targets.inputs.shape[1])
    mean = mean_unembedding(adapter)
    mechanisms = plan.settings.mechanisms
    layers, routed = mechanisms.neuron_layers(adapter), mechanisms.routed_layers(adapter)

    def run_clean() -> CleanBatch:
        kept = {"keep_activations": layers, "keep_routing": routed}
        return clean_batch(adapter, calls, mean, targets, **kept, logit_lens=mechanisms.logit_lens)

    clean_seconds = min(seconds(run_clean, adapter.device, 1 + PROBES)[1:])
    # Forwards of partners, for means and for top rows predict nothing.
    plain_seconds = min(seconds(lambda: head_values(adapter, calls, targets.inputs), adapter.device, 1 + PROBES)[1:])
    clean = run_clean()
    replacements = Replacements(value_biases(adapter, calls), None, None)

    def stack_seconds(layer: int, size: int) -> float:
        stack = [HeadAblation(layer, head % adapter.blocks[layer].n_heads, "zero") for head in range(size)]
        populations = plan.settings.top_populations
        top = torch.zeros(len(populations), size, *clean.scale.shape, dtype=torch.bool, device=adapter.device)
        top[..., ::ROWS_TO_ONE] = True
        top[1:, ..., 0], top[1:, ..., 1:2] = False, True

        def work() -> None:
            observers = Observers(adapter, clean, targets, mechanisms)
            of_stack = observers.of_stack(stack, top if mechanisms.need_top_rows else None, replacements.value_bias)
            ablate(adapter, clean, replacements, stack, of_stack)
            observers.collect(0)

        return min(seconds(work, adapter.device, 1 + PROBES)[1:]) / size  # the first one warms up

    lowest, highest = batch_size.fit(lambda size: [stack_seconds(layer, size) for layer in (0, adapter.n_layers - 1)])
    per_layer = (lowest - highest) / max(1, adapter.n_layers - 1)
    n_inputs = sum(len(prompt.tokens) - 1 for prompt in plan.prompts.prompts)
    prompts = n_inputs / targets.inputs.shape[1]  # in multiples of the probe's length
    one_prompt = sum(highest + per_layer * (adapter.n_layers - 1 - layer) for layer, _ in plan.settings.heads) * len(
        plan.settings.ablations
    )
    before = ("mean" in plan.settings.ablations) + mechanisms.need_top_rows
    partners = "resample" in plan.settings.ablations
    one_prompt += _self_repression_seconds(plan, targets.inputs, calls, clean, replacements.value_bias, batch_size.size)
    return prompts * before * plain_seconds, prompts * (one_prompt + clean_seconds + partners * plain_seconds)


def _self_repression_seconds(
    plan: RunPlan, inputs: Tensor, calls: AttentionCalls, clean: CleanBatch, biases: Tensor, size: int
) -> float:
    """Seconds of the self-repression of all heads on one prompt, from the lowest and the highest of them."""
    adapter = plan.model.adapter
    heads = later_half(plan.settings.heads, adapter.n_layers) if plan.settings.mechanisms.self_repression else []
    if not heads:
        return 0.0
    forward = clean_kv_forward(adapter, calls, inputs)
    drawn = random_vectors(forward.final_stream[0], [0], plan.settings.seed)

    def head_seconds(head: tuple[int, int]) -> float:
        def work() -> None:
            measure_self_repression(forward, {head: 0}, clean.logit_directions, biases, drawn, size)

        return min(seconds(work, adapter.device, 1 + PROBES)[1:])

    return len(heads) * (head_seconds(heads[0]) + head_seconds(heads[-1])) / 2


def _crosscheck_seconds(plan: RunPlan) -> float:
    """Seconds of the whole cross-check: of its first cell, which warms up, and of the others by the time of a few."""
    adapter, chosen = plan.model.adapter, choose_crosschecks(plan)
    means = torch.zeros(adapter.n_layers, adapter.n_heads, adapter.d_head)

    def probed(cells: Sequence[Crosscheck]) -> float:
        start = time.perf_counter()
        crosscheck(plan, means, cells, lambda prompt, ablated: torch.zeros(1).numpy())
        return time.perf_counter() - start

    first, few = probed(chosen[:1]), chosen[1 : 1 + PROBED_CROSSCHECKS]
    of_a_token = probed(few) / _tokens(plan, few) if few else 0.0
    return first + of_a_token * _tokens(plan, chosen[1:]) + READ_SECONDS * len(chosen)


def _tokens(plan: RunPlan, chosen: Sequence[Crosscheck]) -> int:
    """Tokens of all forwards of the cells: of each prompt its own, its partner's, and one for every cell."""
    total, settings = 0, plan.settings
    for prompt, cells in by_prompt(chosen):
        resampled = any(ablated.ablation == "resample" for ablated in cells)
        shared = 1 + resampled + bool(settings.given)
        total += (shared + len(cells)) * (len(plan.prompts.prompts[prompt].tokens) - 1)
    return total
