"""The mechanisms of a measured unit as the columns of the warehouse's tables."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from selfrepair.ingest.conventions import ABLATIONS
from selfrepair.ingest.engine.ablation import Cell
from selfrepair.ingest.mechanisms.edges import EdgeSums
from selfrepair.ingest.mechanisms.logprobs import MEASURES
from selfrepair.ingest.mechanisms.neurons import SUMS, NeuronChanges
from selfrepair.ingest.mechanisms.self_repression import MULTIPLES, SelfRepression
from selfrepair.ingest.runs.columns import Columns, measured_rows, positions
from selfrepair.ingest.runs.measurer import Measured
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.warehouse.schema import ADDED_VECTORS, CHANGE_SHARES, EDGE_POPULATIONS

SELF_REPRESSION_ROWS = 500
"""About as many rows of each head and added vector are kept one by one."""


def mechanism_columns(plan: RunPlan, unit: Unit, measured: Measured) -> dict[str, Columns]:
    """A table for each mechanism that was measured, by its name."""
    tables: dict[str, Columns] = {}
    if measured.edges is not None:
        tables["edge_sums"] = _edge_columns(plan, unit, measured.cells, measured.edges)
    if measured.neurons is not None:
        layers = np.array(plan.mechanisms.neuron_layers(plan.model.atlas), dtype=np.int16)
        neurons = measured.neurons
        tables["neuron_changes"] = _change_columns(unit, measured, layers)
        tables["neuron_curves"] = _curve_columns(unit, measured.cells, layers, neurons)
        tables["neuron_sums"] = _of_mlps(unit, measured.cells, layers, neurons) | {
            name: neurons.sums[..., index][_has_rows(neurons)].numpy() for index, name in enumerate(SUMS)
        }
        tables["neuron_sums"]["n_rows"] = tables["neuron_sums"]["n_rows"].astype(np.int32)
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


def _of_cells(cells: list[Cell], chosen: NDArray[np.int64]) -> Columns:
    """The ablated heads of the cells of these numbers."""
    return {
        "ablation": np.array([ABLATIONS.index(cell.ablation) for cell in cells], dtype=np.int8)[chosen],
        "layer": np.array([cell.layer for cell in cells], dtype=np.int16)[chosen],
        "head": np.array([cell.head for cell in cells], dtype=np.int16)[chosen],
    }


def _edge_columns(plan: RunPlan, unit: Unit, cells: list[Cell], edges: EdgeSums) -> Columns:
    """A row for every cell, population with rows, and target above the ablated head."""
    atlas = plan.model.atlas
    n_head_targets = atlas.n_layers * atlas.n_heads
    target = np.arange(n_head_targets + atlas.n_layers)
    is_head = target < n_head_targets
    target_layer = np.where(is_head, target // atlas.n_heads, target - n_head_targets)
    layer = np.array([cell.layer for cell in cells])[:, None]
    sees = (target_layer > layer) | (~is_head & (target_layer == layer) & (not atlas.parallel_blocks))
    chosen = sees[:, None] & (edges.n_rows.numpy() > 0)[..., None]
    cell, population, at = np.nonzero(chosen)
    assert EDGE_POPULATIONS == ("all", "top2"), "EdgeWatcher sums in this order"
    return _of_cells(cells, cell) | {
        "unit": np.full(len(cell), unit.number, dtype=np.int32),
        "population": population.astype(np.int8),
        "target_kind": np.where(is_head[at], 0, 1).astype(np.int8),
        "target_layer": target_layer[at].astype(np.int16),
        "target_head": np.ma.masked_array((target % atlas.n_heads)[at].astype(np.int16), ~is_head[at]),
        "n_rows": edges.n_rows.numpy()[cell, population].astype(np.int32),
        "change": edges.sums[:, :, 0].numpy()[cell, population, at],
        "squared_change": edges.sums[:, :, 1].numpy()[cell, population, at],
    }


def _change_columns(unit: Unit, measured: Measured, layers: NDArray[np.int16]) -> Columns:
    """A row for each kept neuron, ordered by cell, MLP, prompt, position, rank."""
    cells, neurons = measured.cells, measured.neurons
    assert neurons is not None
    cell, prompt, pos = neurons.rows.numpy().T
    row, mlp = np.nonzero(neurons.measured.numpy())
    order = np.lexsort((pos[row], prompt[row], mlp, cell[row]))
    row, mlp = row[order], mlp[order]
    n_kept = neurons.neurons.shape[-1]

    def each(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, n_kept)

    effects = neurons.effects.float().numpy()[row, mlp]
    return _of_cells(cells, each(cell[row])) | {
        "prompt_id": each((prompt[row] + unit.first).astype(np.int32)),
        "pos": each(positions(measured)[pos[row]]),
        "mlp_layer": each(layers[mlp]),
        "neuron": neurons.neurons.numpy()[row, mlp].ravel(),
        "clean_effect": effects[..., 0].ravel(),
        "ablated_effect": effects[..., 1].ravel(),
        "rank": np.tile(np.arange(1, n_kept + 1, dtype=np.int16), len(row)),
    }


def _has_rows(neurons: NeuronChanges) -> Any:
    return neurons.sums[..., SUMS.index("n_rows")] > 0


def _of_mlps(unit: Unit, cells: list[Cell], layers: NDArray[np.int16], neurons: NeuronChanges) -> Columns:
    """The keys of every cell and MLP that has rows."""
    cell, mlp = np.nonzero(_has_rows(neurons).numpy())
    return _of_cells(cells, cell) | {
        "unit": np.full(len(cell), unit.number, dtype=np.int32),
        "mlp_layer": layers[mlp],
    }


def _curve_columns(unit: Unit, cells: list[Cell], layers: NDArray[np.int16], neurons: NeuronChanges) -> Columns:
    n_ranked = neurons.largest.shape[-1]
    keys = _of_mlps(unit, cells, layers, neurons)
    has_rows = _has_rows(neurons)
    exceed = neurons.exceed[has_rows].numpy().astype(np.int32)
    return {name: np.repeat(values, n_ranked) for name, values in keys.items()} | {
        "nth": np.tile(np.arange(1, n_ranked + 1, dtype=np.int16), len(exceed)),
        "largest_changes": neurons.largest[has_rows].numpy().ravel(),
        **{name: exceed[..., index].ravel() for index, name in enumerate(CHANGE_SHARES)},
    }


def _logit_lens_columns(unit: Unit, measured: Measured) -> Columns:
    """A row for each layer, prompt and position, in this order."""
    n_layers = len(measured.logit_lens)
    n_prompts, n_positions = measured.scale.shape
    return {
        "prompt_id": np.tile(np.repeat(np.array(unit.prompt_ids, dtype=np.int32), n_positions), n_layers),
        "pos": np.tile(positions(measured), n_layers * n_prompts),
        "layer": np.repeat(np.arange(n_layers, dtype=np.int16), n_prompts * n_positions),
        "logit": np.concatenate([layer_read.logit.flatten().float().numpy() for layer_read in measured.logit_lens]),
        "logprob": np.concatenate([layer_read.logprob.flatten().float().numpy() for layer_read in measured.logit_lens]),
        "rank": np.concatenate(
            [layer_read.rank.flatten().numpy().astype(np.int32) for layer_read in measured.logit_lens]
        ),
    }


def _self_repression_sum_columns(unit: Unit, self_repression: SelfRepression) -> Columns:
    """A row for each head, kind, multiple and prompt; sums run over positions."""
    x = self_repression.clean.double().numpy()
    y = self_repression.fed.double().numpy()
    z = np.full_like(y, np.nan)
    z[ADDED_VECTORS.index("own")] = self_repression.fed_own_scale.double().numpy()
    kind, multiple, head, prompt = np.nonzero(~np.isnan(y).any(-1))
    chosen = kind, multiple, head, prompt
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
        **_fed(self_repression, head),
        "prompt_id": (prompt + unit.first).astype(np.int32),
        "added_vector": kind.astype(np.int8),
        "multiple": np.array(MULTIPLES, dtype=np.int16)[multiple],
        "n_rows": np.full(len(kind), x.shape[-1], dtype=np.int32),
        **{name: np.ma.masked_invalid(values[chosen]) for name, values in sums.items()},
    }


def _self_repression_row_columns(
    plan: RunPlan, unit: Unit, measured: Measured, self_repression: SelfRepression
) -> Columns:
    """The same rows one by one, at positions drawn for each prompt: about `SELF_REPRESSION_ROWS` of each head a run."""
    y = self_repression.fed.numpy()
    share = min(1.0, SELF_REPRESSION_ROWS / plan.prompts.n_positions)
    n_positions = y.shape[-1]
    drawn = np.stack(
        [np.random.default_rng((plan.seed, prompt)).random(n_positions) < share for prompt in unit.prompt_ids]
    )
    kind, multiple, head, prompt, pos = np.nonzero(~np.isnan(y) & drawn)
    others = np.array([-1 if number is None else number for number in self_repression.others], dtype=np.int16)[head]
    own_scale = self_repression.fed_own_scale.float().numpy()[multiple, head, prompt, pos]
    return {
        **_fed(self_repression, head),
        "prompt_id": (prompt + unit.first).astype(np.int32),
        "pos": positions(measured)[pos],
        "added_vector": kind.astype(np.int8),
        "multiple": np.array(MULTIPLES, dtype=np.int16)[multiple],
        "other_head": np.ma.masked_array(others, kind != ADDED_VECTORS.index("other")),
        "direct_effect": self_repression.clean.float().numpy()[head, prompt, pos],
        "direct_effect_after": self_repression.fed.float().numpy()[kind, multiple, head, prompt, pos],
        "direct_effect_after_own_scale": np.ma.masked_array(own_scale, kind != ADDED_VECTORS.index("own")),
    }


def _fed(self_repression: SelfRepression, head: NDArray[np.int64]) -> Columns:
    layers, heads = np.array(self_repression.heads, dtype=np.int16).T
    return {"layer": layers[head], "head": heads[head]}
