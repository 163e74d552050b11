"""What a run would cost, from its plan and a probe of each of its stages; nothing is written."""

import itertools
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from selfrepair.ingest.checks.preflight import check_self_repression, preflight
from selfrepair.ingest.engine.ablation import Cell, Replacements, ablate
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.engine.clean import CleanBatch, clean_batch
from selfrepair.ingest.engine.clean_kv import pin
from selfrepair.ingest.engine.forward import AttentionCalls, record_calls, value_biases
from selfrepair.ingest.engine.malloc import keep_freed_memory
from selfrepair.ingest.engine.peak_memory import peak_memory_mb, peak_process_mb
from selfrepair.ingest.engine.timing import seconds
from selfrepair.ingest.engine.unembedding import mean_unembedding
from selfrepair.ingest.mechanisms.observers import Onlookers
from selfrepair.ingest.mechanisms.self_repression import STACKED, fed_heads, measure_self_repression
from selfrepair.ingest.mechanisms.top_rows import ROWS_TO_ONE
from selfrepair.ingest.runs.crosscheck import choose_cells, crosscheck
from selfrepair.ingest.runs.measurer import Measurer, out_of_memory
from selfrepair.ingest.runs.mechanism_columns import SELF_REPRESSION_ROWS
from selfrepair.ingest.runs.plan import RunPlan
from selfrepair.ingest.text.targets import Asked
from selfrepair.warehouse.errors import SelfRepairError

FLOOR_BYTES = 10_500_000
"""What a warehouse takes that holds next to nothing: every column of every table begins with a block of its own."""

BYTES_PER_CELL = 16_000
"""What the summaries of one head under one ablation add, about, whatever the number of prompts."""

BYTES_PER_ROW = 15.3
"""What a row of `measurements` takes in the warehouse, about."""

BYTES_PER_POSITION = 37
"""What a measured position adds to `tokens` and `prompts`, about, however many heads are ablated at it."""

MECHANISM_SHARES = {"edges": 0.02, "neurons_last": 0.17, "neurons_all": 0.7, "logprobs": 0.36}
"""What a mechanism that has rows for every ablation takes, about, as a share of `measurements`."""

BYTES_PER_LOGIT_LENS_ROW = 11
"""What a position takes after one layer of the logit lens, about."""

BYTES_PER_FEEDBACK = 60, 9
"""What one prompt's sums of a head, kind and strength of self-repression take, and a single row of these, about."""

STORED_ROWS_PER_S = 250_000
"""Rows written to part files, loaded and summarised in a second, all together, on two cores."""

STORED_POSITIONS_PER_S = 100_000
"""The same for positions, whose tokens have texts."""

BYTES_PER_UNIT_ROW, BYTES_WITH_MECHANISMS = 800, 3000
"""What a measured row takes in memory, about, until its unit is written and loaded: as measured on the demo model."""

READ_SECONDS = 0.02
"""What finding one cell's stored rows takes the cross-check."""

PROBES = 2
PROBED_CELLS = 4


@dataclass(frozen=True)
class Estimate:
    """`forwards` counts ablated sequences, each run through the layers above its head only. `seconds` is by stage.

    `memory_mb` is the most that measuring takes of the machine's own memory, `gpu_memory_mb` of a GPU's; None: it has none.

    `crosscheck_failure` says why the probe of the cross-check failed; that stage then counts nothing.
    """

    rows: int
    bytes: int
    forwards: int
    batch_size: int
    seconds: dict[str, float]
    memory_mb: float
    gpu_memory_mb: float | None
    crosscheck_failure: str | None


def estimate(plan: RunPlan, batch_size: int | None, began_at: float) -> Estimate:
    """Rows, bytes, forwards and time of a whole run (all shards).

    `began_at` is the `time.perf_counter` of the command's start: start-up costs the run what it cost this call. The
    probe of the cross-check takes the model over; nothing can be measured with it afterwards.
    """
    keep_freed_memory()
    atlas = plan.model.atlas
    longest = len(plan.prompts) - 1
    asked = plan.prompts.asked([longest]).to(atlas.device)
    tokens = torch.from_numpy(plan.prompts.tokens([longest]))
    preflight(atlas, tokens, plan.precision, plan.record.model.name)
    if plan.mechanisms.self_repression:
        check_self_repression(atlas, tokens, plan.precision, plan.record.model.name)
    seconds_of = {"start-up": time.perf_counter() - began_at}
    seconds_of["measuring"], size = _measuring(plan, asked, batch_size or auto_batch_size(atlas, plan.prompts.seq_len))
    failure = None
    try:
        seconds_of["cross-check"] = _crosscheck_seconds(plan)
    except SelfRepairError as error:
        failure = str(error)
    rows, positions = plan.record.n_measurements, plan.prompts.n_positions
    seconds_of["writing and loading"] = rows / STORED_ROWS_PER_S + positions / STORED_POSITIONS_PER_S
    return Estimate(
        rows=rows,
        bytes=round(
            FLOOR_BYTES
            + plan.n_cells * BYTES_PER_CELL
            + rows * BYTES_PER_ROW
            + positions * BYTES_PER_POSITION
            + _mechanism_bytes(plan)
        ),
        forwards=len(plan.prompts) * plan.n_cells,
        batch_size=size,
        seconds=seconds_of,
        memory_mb=peak_process_mb() + _unit_mb(plan),
        gpu_memory_mb=peak_memory_mb(atlas.device) if atlas.device.type == "cuda" else None,
        crosscheck_failure=failure,
    )


def _unit_mb(plan: RunPlan) -> float:
    """What the largest unit takes in memory."""
    rows = max(unit.count * plan.prompts.positions_of(unit.first) for unit in plan.units) * plan.n_cells
    return rows * (BYTES_WITH_MECHANISMS if plan.mechanisms.names else BYTES_PER_UNIT_ROW) / 2**20


def _mechanism_bytes(plan: RunPlan) -> float:
    n_layers, mechanisms = plan.model.atlas.n_layers, plan.mechanisms
    share = sum(MECHANISM_SHARES.get(name, 0.0) for name in mechanisms.names)
    logit_lens = plan.prompts.n_positions * n_layers if mechanisms.logit_lens else 0
    fed = len(fed_heads(plan.heads, n_layers)) * STACKED if mechanisms.self_repression else 0
    per_prompt, per_row = BYTES_PER_FEEDBACK
    self_repression = fed * (
        len(plan.prompts) * per_prompt + min(plan.prompts.n_positions, SELF_REPRESSION_ROWS) * per_row
    )
    return share * plan.record.n_measurements * BYTES_PER_ROW + logit_lens * BYTES_PER_LOGIT_LENS_ROW + self_repression


@torch.inference_mode()
def _measuring(plan: RunPlan, asked: Asked, size: int) -> tuple[float, int]:
    """Seconds of all forwards, and how many sequences fit at once, from stacks of the lowest and highest layer.

    A stack's time falls linearly with its layer, since only the layers above run.
    """
    atlas = plan.model.atlas
    calls = record_calls(atlas, asked.inputs.shape[1])
    mean = mean_unembedding(atlas)
    layers = plan.mechanisms.neuron_layers(atlas)

    def run_clean() -> CleanBatch:
        return clean_batch(atlas, calls, mean, asked, keep_activations=layers, logit_lens=plan.mechanisms.logit_lens)

    clean_seconds = min(seconds(run_clean, atlas.device, 1 + PROBES)[1:])
    clean = run_clean()
    replacements = Replacements(value_biases(atlas, calls), None, None)

    def stack_seconds(layer: int, size: int) -> float:
        stack = [Cell(layer, head % atlas.n_heads, "zero") for head in range(size)]
        top = torch.zeros(size, *clean.scale.shape, dtype=torch.bool, device=atlas.device)
        top[..., ::ROWS_TO_ONE] = True

        def work() -> None:
            watching = Onlookers(atlas, clean, asked, plan.mechanisms, layers)
            watchers = watching.watch(stack, top if plan.mechanisms.need_top_rows else None, replacements.value_bias)
            ablate(atlas, calls, clean, replacements, stack, watchers)
            watching.keep(0)

        return min(seconds(work, atlas.device, 1 + PROBES)[1:]) / size  # the first one warms up

    while True:
        try:
            lowest, highest = (stack_seconds(layer, size) for layer in (0, atlas.n_layers - 1))
            break
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2
    per_layer = (lowest - highest) / max(1, atlas.n_layers - 1)
    n_inputs = sum(len(prompt.tokens) - 1 for prompt in plan.prompts.prompts)
    prompts = n_inputs / asked.inputs.shape[1]  # counted in ones as long as the probe's
    one_prompt = sum(highest + per_layer * (atlas.n_layers - 1 - layer) for layer, _ in plan.heads) * len(
        plan.ablations
    )
    passes = 1 + ("resample" in plan.ablations) + ("mean" in plan.ablations) + plan.mechanisms.need_top_rows
    one_prompt += _self_repression_seconds(plan, asked.inputs, calls, clean, replacements.value_bias, size)
    return prompts * (one_prompt + passes * clean_seconds), size


def _self_repression_seconds(
    plan: RunPlan, inputs: Tensor, calls: AttentionCalls, clean: CleanBatch, biases: Tensor, size: int
) -> float:
    """Seconds of the self-repression of all heads on one prompt, from the lowest and the highest of them."""
    atlas = plan.model.atlas
    fed = fed_heads(plan.heads, atlas.n_layers) if plan.mechanisms.self_repression else []
    if not fed:
        return 0.0
    forward = pin(atlas, calls, inputs)

    def head_seconds(head: tuple[int, int]) -> float:
        def work() -> None:
            measure_self_repression(forward, [head], clean.directions, biases, [0], seed=plan.seed, batch_size=size)

        return min(seconds(work, atlas.device, 1 + PROBES)[1:])

    return len(fed) * (head_seconds(fed[0]) + head_seconds(fed[-1])) / 2


def _crosscheck_seconds(plan: RunPlan) -> float:
    """Seconds of the whole cross-check, from its first cells: the first one's time has the bridge's start in it."""
    atlas = plan.model.atlas
    measurer = Measurer(
        atlas,
        ablations=plan.ablations,
        heads=plan.heads,
        batch_size=1,
        precision=plan.precision,
        means=torch.zeros(atlas.n_layers, atlas.n_heads, atlas.d_head),
    )
    chosen = choose_cells(plan)
    ends = [time.perf_counter()]
    crosscheck(
        plan,
        measurer,
        chosen[: 1 + PROBED_CELLS],
        lambda prompt, cell: torch.zeros(1).numpy(),
        lambda: ends.append(time.perf_counter()),
    )
    first, *others = (end - start for start, end in itertools.pairwise(ends))
    a_cell = sum(others) / len(others) if others else 0.0
    return first + a_cell * (len(chosen) - 1) + READ_SECONDS * len(chosen)
