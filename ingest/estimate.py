"""What a run would cost, from its plan and a probe of a few stacks; nothing is written."""

from dataclasses import dataclass

import torch

from selfrepair.ingest.ablate import Cell, Replacements, ablate
from selfrepair.ingest.batch_size import auto_batch_size
from selfrepair.ingest.clean import clean_batch
from selfrepair.ingest.malloc import keep_freed_memory
from selfrepair.ingest.measure import out_of_memory
from selfrepair.ingest.plan import RunPlan
from selfrepair.ingest.preflight import preflight
from selfrepair.ingest.stream import record_calls, value_biases
from selfrepair.ingest.timing import seconds
from selfrepair.ingest.unembed import mean_unembedding

BYTES_PER_ROW = 17
"""What a row of `measurements` takes in the warehouse, about."""

PROBES = 2


@dataclass(frozen=True)
class Estimate:
    """`forwards` counts ablated sequences, each run through the layers above its head only."""

    rows: int
    bytes: int
    forwards: int
    batch_size: int
    seconds: float


@torch.inference_mode()
def estimate(plan: RunPlan, batch_size: int | None) -> Estimate:
    """Rows, bytes, forwards and time of a whole run (all shards), the time from stacks of the lowest and highest layer.

    A stack's time falls linearly with its layer, since only the layers above run.
    """
    keep_freed_memory()
    atlas = plan.model.atlas
    size = batch_size or auto_batch_size(atlas, plan.prompts.seq_len)
    tokens = torch.from_numpy(plan.prompts.tokens([len(plan.prompts) - 1])).to(atlas.device)
    preflight(atlas, tokens, plan.precision, plan.record.model.name)
    calls = record_calls(atlas, tokens.shape[1] - 1)
    mean = mean_unembedding(atlas)
    clean_seconds = min(seconds(lambda: clean_batch(atlas, calls, mean, tokens), atlas.device, 1 + PROBES)[1:])
    clean = clean_batch(atlas, calls, mean, tokens)
    replacements = Replacements(value_biases(atlas, calls), None, None)

    def stack_seconds(layer: int, size: int) -> float:
        stack = [Cell(layer, head % atlas.n_heads, "zero") for head in range(size)]
        work = seconds(lambda: ablate(atlas, calls, clean, replacements, stack), atlas.device, 1 + PROBES)
        return min(work[1:]) / size  # the first one warms up

    while True:
        try:
            lowest, highest = (stack_seconds(layer, size) for layer in (0, atlas.n_layers - 1))
            break
        except (MemoryError, RuntimeError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        size //= 2
    per_layer = (lowest - highest) / max(1, atlas.n_layers - 1)
    positions = plan.prompts.n_positions / (tokens.shape[1] - 1)  # in prompts as long as the probe's
    one_prompt = sum(highest + per_layer * (atlas.n_layers - 1 - layer) for layer, _ in plan.heads) * len(
        plan.ablations
    )
    passes = 1 + ("resample" in plan.ablations) + ("mean" in plan.ablations)
    rows = plan.record.n_measurements
    return Estimate(
        rows=rows,
        bytes=rows * BYTES_PER_ROW,
        forwards=len(plan.prompts) * plan.n_cells,
        batch_size=size,
        seconds=positions * (one_prompt + passes * clean_seconds),
    )
