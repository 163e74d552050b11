"""A run before it is measured: its prompts and settings, its units, and the key that names it."""

import bisect
import hashlib
import importlib.metadata
import itertools
import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from selfrepair.ingest.conventions import CONVENTIONS, N_CROSSCHECKS, head_label
from selfrepair.ingest.mechanisms.clusters import ClusterGroup, group_prompts
from selfrepair.ingest.mechanisms.self_repression import later_half
from selfrepair.ingest.models.loading import LoadedModel
from selfrepair.ingest.models.tokenizer import tokenizer_sha256
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.request.selection import check_seed
from selfrepair.ingest.runs.measurer import PROMPTS_AT_ONCE
from selfrepair.ingest.terms import option, without_self_repression
from selfrepair.ingest.text.prompts import PromptSet
from selfrepair.ingest.text.sources import Source
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.records import DatasetRecord, RunRecord
from selfrepair.warehouse.parts.version_0_1 import mechanisms_in_key

LEAST_CROSSCHECKS, CELLS_TO_ONE = 16, 32
"""Of a run's cells, one in so many is cross-checked by default: no fewer than the least, no more than `N_CROSSCHECKS`."""

ROWS_IN_UNIT = 600_000
"""About the number of measurements in a unit: what a killed run repeats at most, and what is kept in memory."""

UNITS_PER_WORKER = 4
"""Where several workers or shards share a run, it has about so many units for each at least: none waits long at the end."""

_SOFTWARE = ("selfrepair", "torch", "transformers", "transformer-lens")


@dataclass(frozen=True)
class Unit:
    """Prompts `first` to `first + count - 1`, all of one length: measured, written and loaded as one.

    `document` is the one of which it holds a part; None where it holds whole ones.
    """

    number: int
    first: int
    count: int
    document: int | None = None

    @property
    def prompt_ids(self) -> range:
        """The `prompt_id`s of its prompts."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides a run's numbers, how it is cut into units, and its record for the warehouse.

    `key_of_0_1` is the key under which version 0.1 may have begun the run (`earlier.as_begun`), None once that is known.
    """

    model: LoadedModel
    prompts: PromptSet
    settings: RunSettings
    units: tuple[Unit, ...]
    record: RunRecord
    key_of_0_1: str | None = None

    def unit_of(self, prompt: int) -> Unit:
        """The unit with the prompt of that number."""
        return self.units[bisect.bisect_right(self.units, prompt, key=lambda unit: unit.first) - 1]

    def groups_of(self, unit: Unit) -> list[ClusterGroup]:
        """Its prompts by the documents that they count with in errors, those apart that other units have prompts of, too: so
        what is added up over units is grouped by document, however the run is cut.
        """
        clusters, in_several_units = self._clusters
        return group_prompts(clusters[unit.first : unit.first + unit.count], in_several_units)

    @cached_property
    def _clusters(self) -> tuple[list[int], frozenset[int]]:
        """The document with which each prompt counts, and those documents that several units have."""
        clusters = self.prompts.clusters()
        first_units: dict[int, int] = {}
        in_several = {
            cluster
            for unit in self.units
            for cluster in clusters[unit.first : unit.first + unit.count]
            if first_units.setdefault(cluster, unit.number) != unit.number
        }
        return clusters, frozenset(in_several)

    def cut_as(self, rows_in_unit: int | None) -> "RunPlan":
        """The same run in units of so many rows, as `cut` has them; None: as earlier versions cut it."""
        n, by_document = self.settings.n_head_ablations, rows_in_unit is not None
        units = cut(self.prompts, n, ROWS_IN_UNIT if rows_in_unit is None else rows_in_unit, by_document=by_document)
        return replace(self, units=units, record=replace(self.record, n_units=len(units), rows_in_unit=rows_in_unit))


def plan_run(
    model: LoadedModel,
    source: Source,
    prompts: PromptSet,
    settings: RunSettings,
    *,
    command: str | None = None,
    n_crosschecks: int | None = None,
    n_workers: int = 1,
) -> RunPlan:
    """Cut a run into units for `n_workers` and name it; `command` measures it, and `n_crosschecks` of its cells are measured
    again.

    The key hashes what decides the numbers (weights, the model's configuration, prompts and their partners, heads,
    ablations, seed, precision, conventions, mechanisms, co-ablated heads) and nothing that must not (batch size, device,
    workers, shards, cross-check). Raises SelfRepairError for mechanisms that the model does not have, and for a seed that no
    file can keep.
    """
    check_seed(settings.seed)
    mechanisms, n_layers = settings.mechanisms, model.adapter.n_layers
    mechanisms.neuron_layers(model.adapter)
    if mechanisms.self_repression and not later_half(settings.heads, n_layers):
        raise _no_later_half(n_layers)
    dataset = DatasetRecord(
        name=source.name,
        split=source.split,
        revision=source.revision,
        packing=prompts.packing,
        seq_len=prompts.seq_len,
        fingerprint=prompts.fingerprint(),
    )
    of_dataset = [dataset.name, dataset.split, dataset.revision, dataset.packing]
    decisive: dict[str, Any] = {
        "model": [model.record.name, model.record.revision, model.record.checkpoint, model.record.weights_sha256],
        "ablations": settings.ablations,
        "heads": settings.heads,
        "seed": settings.seed,
        "dtype": settings.precision.name,
        "conventions": CONVENTIONS,
    }
    # What a run does not have is not in its key: runs from before there was such a choice keep theirs.
    optional = {"mechanisms": mechanisms_in_key(mechanisms.names), "given": settings.given}
    decisive |= {name: value for name, value in optional.items() if value}
    of_0_1 = {"dataset": [*of_dataset, prompts.fingerprint_of_0_1()]}
    of_today = {
        "dataset": [*of_dataset, dataset.fingerprint],
        "pairing": prompts.pairing(),
        "config": model.record.config_sha256,
    }
    n_head_ablations = settings.n_head_ablations
    rows_in_unit = rows_for(prompts, n_head_ablations, UNITS_PER_WORKER * n_workers if n_workers > 1 else 1)
    units = cut(prompts, n_head_ablations, rows_in_unit)
    n_cells = n_head_ablations * len(prompts)
    if n_crosschecks is None:
        n_crosschecks = min(N_CROSSCHECKS, max(LEAST_CROSSCHECKS, n_cells // CELLS_TO_ONE))
    record = RunRecord(
        run_key=_key(decisive | of_today),
        model=model.record,
        dataset=dataset,
        n_prompts=len(prompts),
        n_units=len(units),
        n_measurements=prompts.n_positions * n_head_ablations,
        n_crosschecks=min(n_crosschecks, n_cells),
        crosscheck_tolerance=settings.precision.crosscheck,
        ablations=tuple(settings.ablations),
        given_heads=tuple(head_label(*head) for head in settings.given),
        selected_heads=tuple(head_label(*head) for head in settings.heads),
        mechanisms=mechanisms.names,
        logit_of=prompts.logit_of,
        seed=settings.seed,
        dtype=settings.precision.name,
        device=_device_name(model),
        conventions=CONVENTIONS,
        software={name: importlib.metadata.version(name) for name in (*_SOFTWARE, *model.packages)}
        | {"python": platform.python_version()},
        started_at=datetime.now(UTC).replace(tzinfo=None),
        command=command,
        tokenizer_sha256=tokenizer_sha256(model.tokenizer),
        rows_in_unit=rows_in_unit,
    )
    return RunPlan(model, prompts, settings, units, record, _key(decisive | of_0_1))


def _no_later_half(n_layers: int) -> SelfRepairError:
    measured = "self-repression is measured of heads in the later half of the layers, "
    if n_layers == 1:
        return SelfRepairError(
            f"{measured}and a model of one layer has none. {without_self_repression().capitalize()}."
        )
    first, last = math.ceil(n_layers / 2), n_layers - 1
    layers = option("layers", f"{first}-{last}" if first < last else str(last))
    return SelfRepairError(
        f"{measured}and none of those is selected. Select some, such as {layers}, or {without_self_repression()}."
    )


def _key(decisive: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def cut(prompts: PromptSet, n_head_ablations: int, rows_in_unit: int, *, by_document: bool = True) -> tuple[Unit, ...]:
    """The units of a run, of one length and at most `rows_in_unit` rows each, but one prompt at least.

    A unit holds whole documents; one that is longer is cut into units of its own. Prompts of several lengths, and those of
    interleaved chunks (stdlib), which do not follow each other, are in several units nevertheless.
    Without `by_document`, units are as full as can be, as earlier versions cut them.
    """
    units: list[Unit] = []
    for (length, document), count in _documents(prompts) if by_document else _lengths(prompts):
        most, last = _most_prompts(length, n_head_ablations, rows_in_unit), units[-1] if units else None
        first = last.first + last.count if last else 0
        is_whole = document is None or count <= most
        if last and by_document and last.document is None and is_whole and _fits(prompts, last, count, length, most):
            units[-1] = replace(last, count=last.count + count)
            continue
        for start in range(first, first + count, most):
            part_of = None if is_whole else document
            units.append(Unit(len(units), start, min(most, first + count - start), part_of))
    return tuple(units)


def rows_for(prompts: PromptSet, n_head_ablations: int, n_units: int) -> int:
    """The most rows that each of so many units or more can have."""

    def fewest_units(rows: int) -> int:
        return sum(
            math.ceil(count / _most_prompts(length, n_head_ablations, rows)) for (length, _), count in _lengths(prompts)
        )

    sizes = range(1, ROWS_IN_UNIT + 1)
    return max(1, bisect.bisect_right(sizes, -n_units, key=lambda rows: -fewest_units(rows)))


def _fits(prompts: PromptSet, unit: Unit, count: int, length: int, most: int) -> bool:
    return unit.count + count <= most and len(prompts.prompts[unit.first].tokens) == length


def _documents(prompts: PromptSet) -> Iterator[tuple[tuple[int, int | None], int]]:
    """Length, number and prompts of each document, one after the other."""
    for key, alike in itertools.groupby(prompts.prompts, key=lambda prompt: (len(prompt.tokens), prompt.document)):
        yield key, sum(1 for _ in alike)


def _lengths(prompts: PromptSet) -> Iterator[tuple[tuple[int, int | None], int]]:
    """The same of prompts of one length, whatever their documents."""
    for length, alike in itertools.groupby(prompts.prompts, key=lambda prompt: len(prompt.tokens)):
        yield (length, None), sum(1 for _ in alike)


def _most_prompts(length: int, n_head_ablations: int, rows_in_unit: int) -> int:
    """Prompts of a length in a unit at most: those of small units fill batches."""
    count = max(
        1, rows_in_unit // (n_head_ablations * (length - 1))
    )  # rows that are run: of an answer, one is measured
    whole_batches = count - count % PROMPTS_AT_ONCE
    return count if rows_in_unit == ROWS_IN_UNIT else whole_batches or count


def _device_name(model: LoadedModel) -> str:
    import torch

    names = [
        torch.cuda.get_device_name(device) if device.type == "cuda" else device.type for device in model.adapter.devices
    ]
    return " + ".join(names)
