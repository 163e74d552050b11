"""A measured unit as columns of the warehouse's tables of mechanisms."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.mechanisms.clusters import ClusterGroup, ClusterSums, cluster_sums
from selfrepair.ingest.mechanisms.edges import EdgeSums
from selfrepair.ingest.mechanisms.experts import EXPERT_SUMS, ROUTING_SUMS, ExpertSums
from selfrepair.ingest.mechanisms.logprobs import MEASURES
from selfrepair.ingest.mechanisms.neurons import LARGEST, SUMS, NeuronChanges
from selfrepair.ingest.mechanisms.self_repression import MULTIPLES, SelfRepression
from selfrepair.ingest.runs.measured import Measured
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.ingest.runs.unit_columns import Columns, head_keys, measured_rows, positions
from selfrepair.warehouse.schema import (
    ADDED_VECTORS,
    CHANGE_SHARES,
    EDGE_POPULATIONS,
    EFFECT_STEP,
    NEURON_POPULATIONS,
)

SELF_REPRESSION_ROWS = 500
"""About the number of single rows that are stored of each head, added vector and multiple."""


def mechanism_columns(plan: RunPlan, unit: Unit, measured: Measured) -> dict[str, Columns]:
    """A table for each mechanism that was measured, by its name."""
    tables: dict[str, Columns] = {}
    if measured.edges is not None:
        tables["edge_sums"] = _edge_columns(plan, unit, measured.head_ablations, measured.edges)
    if measured.neurons is not None:
        layers = np.array(plan.settings.mechanisms.neuron_layers(plan.model.adapter), dtype=np.int16)
        neurons = measured.neurons
        tables["neuron_changes"] = _change_columns(unit, measured, layers)
        tables["neuron_curves"] = _curve_columns(unit, measured.head_ablations, layers, neurons)
        tables["neuron_sums"] = _of_mlps(unit, measured.head_ablations, layers, neurons) | {
            name: neurons.sums[..., index][_has_rows(neurons)].numpy() for index, name in enumerate(SUMS)
        }
        for name in ("n_rows", "n_changed"):
            tables["neuron_sums"][name] = tables["neuron_sums"][name].astype(np.int32)
    if measured.experts is not None:
        tables |= _expert_columns(plan, unit, measured.head_ablations, measured.experts)
    if measured.logit_lens:
        tables["logit_lens"] = _logit_lens_columns(unit, measured)
    if measured.logprobs is not None:
        tables["logprob_changes"] = measured_rows(unit, measured) | {
            name: measured.logprobs[..., index].flatten().float().numpy() for index, name in enumerate(MEASURES)
        }
    if measured.self_repression is not None:
        tables["self_repression_sums"] = _self_repression_sum_columns(unit, measured.self_repression)
        tables["self_repression"] = _self_repression_row_columns(plan, unit, measured, measured.self_repression)
    return tables


def _keys_of(head_ablations: list[HeadAblation], chosen: NDArray[np.int64]) -> Columns:
    """The key columns of the head ablations of these numbers."""
    return {name: key[chosen] for name, key in head_keys(head_ablations).items()}


def _edge_columns(plan: RunPlan, unit: Unit, head_ablations: list[HeadAblation], edges: EdgeSums) -> Columns:
    """A row for every group of documents (`RunPlan.groups_of`), head ablation, population with rows, and target above the
    ablated head.
    """
    adapter = plan.model.adapter
    n_head_targets = adapter.n_layers * adapter.n_heads
    target = np.arange(n_head_targets + adapter.n_layers)
    is_head = target < n_head_targets
    target_layer = np.where(is_head, target // adapter.n_heads, target - n_head_targets)
    layer = np.array([ablated.layer for ablated in head_ablations])[:, None]
    sees = (target_layer > layer) | (~is_head & (target_layer == layer) & (not adapter.parallel_blocks))
    groups = plan.groups_of(unit)
    found = cluster_sums(edges.prompt_rows, edges.prompt_sums, groups)
    group, ablated, population, at = np.nonzero(sees[:, None] & (found.n_rows.numpy() > 0)[..., None])
    of_population = group, ablated, population
    assert EDGE_POPULATIONS == ("all", "top2"), "EdgeObserver sums in this order"
    return _keys_of(head_ablations, ablated) | {
        "unit": np.full(len(ablated), unit.number, dtype=np.int32),
        "population": population.astype(np.int8),
        "target_kind": np.where(is_head[at], 0, 1).astype(np.int8),
        "target_layer": target_layer[at].astype(np.int16),
        "target_head": np.ma.masked_array((target % adapter.n_heads)[at].astype(np.int16), ~is_head[at]),
        "n_rows": found.n_rows.numpy()[of_population].astype(np.int32),
        "change": found.sums[..., 0].numpy()[*of_population, at],
        "squared_change": found.sums[..., 1].numpy()[*of_population, at],
        **_cluster_columns(found, groups, of_population, at, "change"),
    }


def _cluster_columns(
    found: ClusterSums,
    groups: list[ClusterGroup],
    of_population: tuple[NDArray[np.int64], ...],
    at: NDArray[np.int64],
    name: str,
) -> Columns:
    """What the error of the sum `name` is made of; for the row of one document, that follows from the sum itself."""
    documents = np.array([-1 if group.document is None else group.document for group in groups], dtype=np.int32)
    document = documents[of_population[0]]

    def of_several(values: Tensor, *places: NDArray[np.int64], dtype: type = np.float64) -> NDArray[Any]:
        return np.ma.masked_array(values.numpy()[places].astype(dtype), document >= 0)

    return {
        "n_clusters": of_several(found.n_clusters, *of_population, dtype=np.int32),
        "squared_rows": of_several(found.squared_rows, *of_population),
        f"rows_by_{name}": of_several(found.rows_by_first, *of_population, at),
        f"squared_cluster_{name}": of_several(found.squared_first, *of_population, at),
        "document_id": np.ma.masked_array(document, document < 0),
    }


def _expert_columns(
    plan: RunPlan, unit: Unit, head_ablations: list[HeadAblation], experts: ExpertSums
) -> dict[str, Columns]:
    """For every head ablation, population with rows and MLP with experts above the ablated head: a row for every group of
    documents (`RunPlan.groups_of`), and one for each of its experts that is ever chosen.
    """
    adapter = plan.model.adapter
    of_layers = [
        (layer, block.experts.n_experts) for layer, block in enumerate(adapter.blocks) if block.experts is not None
    ]
    layers, n_experts = np.array(of_layers, dtype=np.int16).T
    layer = np.array([ablated.layer for ablated in head_ablations])[:, None]
    sees = (layers >= layer + adapter.parallel_blocks)[:, None]
    groups = plan.groups_of(unit)
    found = cluster_sums(experts.prompt_rows, experts.prompt_routing, groups)
    group, *at = np.nonzero(sees & (found.n_rows.numpy() > 0)[..., None])
    ablated, population, mlp = at
    of_population = group, ablated, population

    def keys(ablated: NDArray[np.int64], population: NDArray[np.int64], mlp: NDArray[np.int64]) -> Columns:
        return _keys_of(head_ablations, ablated) | {
            "unit": np.full(len(ablated), unit.number, dtype=np.int32),
            "population": population.astype(np.int8),
            "mlp_layer": layers[mlp],
        }

    def sums(names: tuple[str, ...], values: NDArray[np.float64]) -> Columns:
        by_name = dict(zip(names, np.moveaxis(values, -1, 0), strict=True))
        counts = [name for name in names if name.endswith(("_rows", "_experts"))]
        return by_name | {name: by_name[name].astype(np.int32) for name in counts}

    each = experts.experts.numpy()
    has_rows = experts.prompt_rows.sum(dim=-1).numpy() > 0
    is_chosen = (each[..., :2] > 0).any(axis=-1) & (sees & has_rows[..., None])[..., None]
    *places, expert = np.nonzero(is_chosen)
    return {
        "routing_sums": keys(*at)
        | {"n_experts": n_experts[mlp], "n_rows": found.n_rows.numpy()[of_population].astype(np.int32)}
        | sums(ROUTING_SUMS, found.sums.numpy()[group, *at])
        | _cluster_columns(found, groups, of_population, mlp, "rerouted"),
        "expert_sums": keys(*places) | {"expert": expert.astype(np.int16)} | sums(EXPERT_SUMS, each[is_chosen]),
    }


def _change_columns(unit: Unit, measured: Measured, layers: NDArray[np.int16]) -> Columns:
    """A row for each kept neuron that changes, ordered by head ablation, MLP, prompt, position, rank."""
    head_ablations, neurons = measured.head_ablations, measured.neurons
    assert neurons is not None
    ablated, prompt, pos = neurons.rows.numpy().T
    row, mlp = np.nonzero(neurons.measured.numpy())
    order = np.lexsort((pos[row], prompt[row], mlp, ablated[row]))
    row, mlp = row[order], mlp[order]
    effects = neurons.effects.numpy()[row, mlp]
    changes = abs(effects[..., 1] - effects[..., 0]) >= EFFECT_STEP / 2
    n_changing = changes.sum(axis=-1)  # they come first: neurons are in the order of |change|

    def each(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, n_changing)

    effects = effects.astype(np.float32)[changes]
    return _keys_of(head_ablations, each(ablated[row])) | {
        "prompt_id": each((prompt[row] + unit.first).astype(np.int32)),
        "pos": each(positions(measured)[pos[row]]),
        "mlp_layer": each(layers[mlp]),
        "neuron": neurons.neurons.numpy()[row, mlp][changes],
        "clean_effect": effects[..., 0],
        "ablated_effect": effects[..., 1],
        "rank": np.nonzero(changes)[1].astype(np.int16) + np.int16(1),
        **{f"in_{name}": each(members[row]) for name, members in _members(neurons).items()},
    }


def _members(neurons: NeuronChanges) -> dict[str, NDArray[np.bool_]]:
    """Which rows are in each population; none in one that was not read."""
    none = np.zeros(len(neurons.rows), dtype=np.bool_)
    return dict.fromkeys(NEURON_POPULATIONS, none) | dict(
        zip(NEURON_POPULATIONS, neurons.members.numpy().T, strict=False)
    )


def _has_rows(neurons: NeuronChanges) -> Any:
    return neurons.sums[..., SUMS.index("n_rows")] > 0


def _of_mlps(
    unit: Unit, head_ablations: list[HeadAblation], layers: NDArray[np.int16], neurons: NeuronChanges
) -> Columns:
    """The keys of every head ablation, population and MLP that has rows."""
    ablated, population, mlp = np.nonzero(_has_rows(neurons).numpy())
    return _keys_of(head_ablations, ablated) | {
        "unit": np.full(len(ablated), unit.number, dtype=np.int32),
        "mlp_layer": layers[mlp],
        "population": population.astype(np.int8),
    }


def _curve_columns(
    unit: Unit, head_ablations: list[HeadAblation], layers: NDArray[np.int16], neurons: NeuronChanges
) -> Columns:
    n_ranked = neurons.largest.shape[-2]
    keys = _of_mlps(unit, head_ablations, layers, neurons)
    has_rows = _has_rows(neurons)
    exceed = neurons.exceed[has_rows].numpy().astype(np.int32)
    return {name: np.repeat(values, n_ranked) for name, values in keys.items()} | {
        "nth": np.tile(np.arange(1, n_ranked + 1, dtype=np.int16), len(exceed)),
        **{name: neurons.largest[has_rows].numpy()[..., index].ravel() for index, name in enumerate(LARGEST)},
        **{
            name: exceed[..., index].ravel()
            for index, name in enumerate([*CHANGE_SHARES, *(f"signed_{name}" for name in CHANGE_SHARES)])
        },
    }


def _logit_lens_columns(unit: Unit, measured: Measured) -> Columns:
    """A row for each layer, prompt and position, in this order."""
    n_layers = len(measured.logit_lens)
    n_prompts, n_positions = measured.scale.shape
    return {
        "prompt_id": np.tile(np.repeat(np.array(unit.prompt_ids, dtype=np.int32), n_positions), n_layers),
        "pos": np.tile(positions(measured), n_layers * n_prompts),
        "layer": np.repeat(np.arange(n_layers, dtype=np.int16), n_prompts * n_positions),
        "logit": np.concatenate([lens.logit.flatten().float().numpy() for lens in measured.logit_lens]),
        "logprob": np.concatenate([lens.logprob.flatten().float().numpy() for lens in measured.logit_lens]),
        "rank": np.concatenate([lens.rank.flatten().numpy().astype(np.int32) for lens in measured.logit_lens]),
    }


def _self_repression_sum_columns(unit: Unit, self_repression: SelfRepression) -> Columns:
    """A row for each head, added vector, multiple and prompt; sums run over positions."""
    x = self_repression.direct_effect.double().numpy()
    y = self_repression.direct_effect_after.double().numpy()
    z = np.full_like(y, np.nan)
    z[ADDED_VECTORS.index("own")] = self_repression.direct_effect_after_own_scale.double().numpy()
    vector, multiple, head, prompt = np.nonzero(~np.isnan(y).any(-1))
    chosen = vector, multiple, head, prompt
    sums = {
        "sum_x": np.broadcast_to(x.sum(-1), y.shape[:-1]),
        "sum_xx": np.broadcast_to((x * x).sum(-1), y.shape[:-1]),
        "sum_y": y.sum(-1),
        "sum_xy": (x * y).sum(-1),
        "sum_yy": (y * y).sum(-1),
        "sum_z": z.sum(-1),
        "sum_xz": (x * z).sum(-1),
        "sum_zz": (z * z).sum(-1),
    }
    return {
        **_head_keys(self_repression, head),
        "prompt_id": (prompt + unit.first).astype(np.int32),
        "added_vector": vector.astype(np.int8),
        "multiple": np.array(MULTIPLES, dtype=np.int16)[multiple],
        "n_rows": np.full(len(vector), x.shape[-1], dtype=np.int32),
        **{name: np.ma.masked_invalid(values[chosen]) for name, values in sums.items()},
    }


def _self_repression_row_columns(
    plan: RunPlan, unit: Unit, measured: Measured, self_repression: SelfRepression
) -> Columns:
    """Single rows at positions drawn for each prompt: about `SELF_REPRESSION_ROWS` of each head, vector and multiple."""
    y = self_repression.direct_effect_after.numpy()
    share = min(1.0, SELF_REPRESSION_ROWS / plan.prompts.n_positions)
    n_positions = y.shape[-1]
    drawn = np.stack(
        [np.random.default_rng((plan.settings.seed, prompt)).random(n_positions) < share for prompt in unit.prompt_ids]
    )
    vector, multiple, head, prompt, pos = np.nonzero(~np.isnan(y) & drawn)
    others = np.array([-1 if number is None else number for number in self_repression.other_heads], dtype=np.int16)[
        head
    ]
    own_scale = self_repression.direct_effect_after_own_scale.float().numpy()[multiple, head, prompt, pos]
    return {
        **_head_keys(self_repression, head),
        "prompt_id": (prompt + unit.first).astype(np.int32),
        "pos": positions(measured)[pos],
        "added_vector": vector.astype(np.int8),
        "multiple": np.array(MULTIPLES, dtype=np.int16)[multiple],
        "other_head": np.ma.masked_array(others, vector != ADDED_VECTORS.index("other")),
        "direct_effect": self_repression.direct_effect.float().numpy()[head, prompt, pos],
        "direct_effect_after": self_repression.direct_effect_after.float().numpy()[vector, multiple, head, prompt, pos],
        "direct_effect_after_own_scale": np.ma.masked_array(own_scale, vector != ADDED_VECTORS.index("own")),
    }


def _head_keys(self_repression: SelfRepression, head: NDArray[np.int64]) -> Columns:
    layers, heads = np.array(self_repression.heads, dtype=np.int16).T
    return {"layer": layers[head], "head": heads[head]}
