"""A run before it is measured: which prompts, which cells, in which units, and the key that names it."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from selfrepair.ingest.conventions import CONVENTIONS, CROSSCHECK_CELLS, Precision, head_label
from selfrepair.ingest.mechanisms.self_repression import fed_heads
from selfrepair.ingest.models.loading import LoadedModel
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.text.prompts import PromptSet
from selfrepair.ingest.text.sources import Source
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.records import DatasetRecord, RunRecord
from selfrepair.warehouse.parts.version_0_1 import mechanisms_in_key

ROWS_IN_UNIT = 600_000
"""About as many measurements as a unit holds: what a killed run measures again at most, and what memory keeps."""

_SOFTWARE = ("selfrepair", "torch", "transformers", "transformer-lens")


@dataclass(frozen=True)
class Unit:
    """Prompts `first` to `first + count - 1`, all of one length: what is measured, written and loaded as one."""

    number: int
    first: int
    count: int

    @property
    def prompt_ids(self) -> range:
        """Numbers of its prompts."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides a run's numbers, and how it is cut into units."""

    model: LoadedModel
    prompts: PromptSet
    ablations: tuple[str, ...]
    heads: tuple[tuple[int, int], ...]
    units: tuple[Unit, ...]
    seed: int
    precision: Precision
    mechanisms: Mechanisms
    given: tuple[tuple[int, int], ...]
    record: RunRecord

    @property
    def n_cells(self) -> int:
        """Heads times ablations."""
        return len(self.heads) * len(self.ablations)


def plan_run(
    model: LoadedModel,
    source: Source,
    prompts: PromptSet,
    *,
    ablations: Sequence[str],
    heads: Sequence[tuple[int, int]],
    seed: int,
    precision: Precision,
    mechanisms: Mechanisms = Mechanisms(),  # noqa: B008 - it is frozen
    given: Sequence[tuple[int, int]] = (),
) -> RunPlan:
    """Cut a run into units and name it.

    The key hashes what decides the numbers (weights, prompts and their partners, heads, ablations, seed, precision,
    conventions, mechanisms, given heads) and nothing that must not (batch size, device, shards). Raises SelfRepairError
    for mechanisms that the model does not have.
    """
    mechanisms.neuron_layers(model.atlas)
    if mechanisms.self_repression and not fed_heads(heads, model.atlas.n_layers):
        raise SelfRepairError(
            "--self-repression measures heads of the later half of the layers, and none of them is among the chosen ones: "
            f"choose some with --layers {model.atlas.n_layers // 2 + model.atlas.n_layers % 2}-{model.atlas.n_layers - 1}, "
            "or leave --self-repression out."
        )
    dataset = DatasetRecord(
        name=source.name,
        split=source.split,
        revision=source.revision,
        packing=prompts.packing,
        seq_len=prompts.seq_len,
        fingerprint=prompts.fingerprint(),
    )
    ordered = tuple(sorted(heads))
    decisive = {
        "model": [model.record.name, model.record.revision, model.record.checkpoint, model.record.weights_sha256],
        "dataset": [dataset.name, dataset.split, dataset.revision, dataset.packing, dataset.fingerprint],
        "ablations": list(ablations),
        "heads": ordered,
        "seed": seed,
        "dtype": precision.name,
        "conventions": CONVENTIONS,
    }
    # What is not asked for is not in the key: runs from before there was a choice keep theirs.
    optional = {"mechanisms": mechanisms_in_key(mechanisms.names), "given": sorted(given)}
    decisive |= {name: value for name, value in optional.items() if value}
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
    units = _units(prompts, len(heads) * len(ablations))
    n_cells = len(heads) * len(ablations)
    record = RunRecord(
        run_key=key,
        model=model.record,
        dataset=dataset,
        n_prompts=len(prompts),
        n_units=len(units),
        n_measurements=prompts.n_positions * n_cells,
        n_crosschecks=min(CROSSCHECK_CELLS, n_cells * len(prompts)),
        crosscheck_tolerance=precision.crosscheck,
        ablations=tuple(ablations),
        given_heads=tuple(head_label(*head) for head in sorted(given)),
        selected_heads=tuple(head_label(*head) for head in ordered),
        mechanisms=mechanisms.names,
        logit_of=prompts.logit_of,
        seed=seed,
        dtype=precision.name,
        device=_device_name(model),
        conventions=CONVENTIONS,
        software={name: importlib.metadata.version(name) for name in _SOFTWARE} | {"python": platform.python_version()},
        started_at=datetime.now(UTC).replace(tzinfo=None),
    )
    return RunPlan(
        model,
        prompts,
        tuple(ablations),
        ordered,
        units,
        seed,
        precision,
        mechanisms,
        tuple(sorted(given)),
        record,
    )


def _units(prompts: PromptSet, n_cells: int) -> tuple[Unit, ...]:
    lengths = [len(prompt.tokens) for prompt in prompts.prompts]
    units: list[Unit] = []
    first = 0
    while first < len(lengths):
        length = lengths[first]
        most = max(1, ROWS_IN_UNIT // (n_cells * (length - 1)))  # what is run, where only the end is measured, too
        same = next((i for i in range(first, len(lengths)) if lengths[i] != length), len(lengths))
        count = min(most, same - first)
        units.append(Unit(len(units), first, count))
        first += count
    return tuple(units)


def _device_name(model: LoadedModel) -> str:
    import torch

    device = model.atlas.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
