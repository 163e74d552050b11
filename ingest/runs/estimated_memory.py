"""What a run takes of the memory of its process and of its GPUs."""

from dataclasses import dataclass, replace

import torch

from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.engine.memory import available_mb, peak_memory_mb, peak_process_mb
from selfrepair.ingest.mechanisms.top_rows import TopRowsSearch
from selfrepair.ingest.models.adapter import ModelAdapter
from selfrepair.ingest.runs.measurer import Measurer, prompts_at_once
from selfrepair.ingest.runs.plan import RunPlan

BYTES_PER_UNIT_ROW, BYTES_WITH_MECHANISMS = 300, 500
"""About the memory of a measured row until its unit is written, measured on the bundled model."""

LOADING_MB, LOADING_BYTES_PER_ROW = 330, 250
"""About the memory that loading and summarising take, and more for each row of the run: measured with 600,000 rows and 3.6
million.
"""

MOST_OF_DUCKDB = 0.8
"""Share of a machine's memory that DuckDB takes at most."""


@dataclass(frozen=True)
class GPUMemory:
    """What a GPU has to hold [MB]: `peak_mb` with the weights, of `room_mb` that this process can have there."""

    device: str
    layers: str
    weights_mb: float
    peak_mb: float
    room_mb: float


def gpus_memory(adapter: ModelAdapter) -> list[GPUMemory]:
    """Of each GPU with layers of the model, after a probe."""
    found = []
    for device in adapter.devices:
        if device.type != "cuda":
            continue
        layers = [layer for layer, block in enumerate(adapter.blocks) if block.device == device]
        weights = sum(parameter.nbytes for parameter in adapter.model.parameters() if parameter.device == device)
        room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        named = f"layers {layers[0]}-{layers[-1]}" if layers else "unembedding"
        found.append(GPUMemory(str(device), named, weights / 2**20, peak_memory_mb(device), room / 2**20))
    return found


def process_mb(plan: RunPlan, resident_mb: float) -> float:
    """The peak of RAM [MB], after a probe: of the largest unit, or of loading, when little more than what was `resident_mb`
    before the probe is in use.
    """
    rows = max(unit.count * plan.prompts.positions_of(unit.first) for unit in plan.units)
    per_row = BYTES_WITH_MECHANISMS if plan.settings.mechanisms.names else BYTES_PER_UNIT_ROW
    unit_mb = rows * plan.settings.n_head_ablations * per_row / 2**20
    loading_mb = LOADING_MB + plan.record.n_measurements * LOADING_BYTES_PER_ROW / 2**20
    most = available_mb()
    if most is not None:
        loading_mb = min(loading_mb, MOST_OF_DUCKDB * most)
    return max(peak_process_mb() + unit_mb, resident_mb + loading_mb)


def measure_one_stack(plan: RunPlan, batch_size: int) -> None:
    """Measure a batch of prompts as the run does, but only one stack of ablated heads: the memory it takes is then known."""
    adapter, settings, unit = plan.model.adapter, plan.settings, max(plan.units, key=lambda unit: unit.count)
    everything = [HeadAblation(*head, ablation) for head in settings.heads for ablation in settings.ablations]
    prompts = list(unit.prompt_ids)[: prompts_at_once(everything, batch_size)]
    targets, lowest = plan.prompts.targets(prompts), settings.heads[0][0]
    n_heads = max(1, batch_size // (len(prompts) * len(settings.ablations)))
    heads = [head for head in settings.heads if head[0] == lowest][:n_heads]
    few = replace(settings, heads=heads, mechanisms=replace(settings.mechanisms, self_repression=False))
    measurer = Measurer(adapter, few, batch_size=batch_size)
    measurer.means = torch.zeros(adapter.n_layers, adapter.n_heads, adapter.d_head)
    if settings.mechanisms.need_top_rows:
        by_row = torch.arange(len(heads) * targets.ids.numel()).view(len(heads), *targets.ids.shape)
        search = TopRowsSearch(heads, *[targets.ids.numel()] * len(settings.top_populations))
        search.add(prompts, by_row, targets.first_position)
        measurer.top_rows = search.found()
    partners = plan.prompts.partners
    inputs = None if partners is None else plan.prompts.targets(partners[index] for index in prompts).inputs
    measurer.measure(targets, inputs, prompts)
