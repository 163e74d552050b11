"""Rows of the mechanisms' tables at random, summed up from single changes that tests can work with, too."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from selfrepair.warehouse.schema import ABLATIONS, CHANGE_SHARES, NEURON_POPULATIONS, NEURONS_KEPT, NEURONS_RANKED
from support.experts import expert_sums, random_experts, routing_sums
from support.random_runs import FAILED, STEPS, random_runs

MECHANISMS = ("edges", "neurons_all", "experts", "logit_lens", "logprobs", "self_repression")
"""What `random_mechanisms` makes up, as `runs.mechanisms` has it."""

MULTIPLES = (1, 3)
D_MLP = 32

_CELL = ["run_id", "ablation", "layer", "head"]
_ROW = [*_CELL, "prompt_id", "pos"]


@dataclass(frozen=True)
class Mechanisms:
    """`tables` by name, as the warehouse has them; the others hold what they sum up, a row for each single change.

    `edges`: population, target and change; `neurons`: all neurons of the rows that count, with `in_top2` and `in_top2_nobos`
    as `neuron_changes` has them; `experts`: of each MLP, which were chosen and what they change; `self_repression`: x, y and z.
    """

    tables: dict[str, pl.DataFrame]
    edges: pl.DataFrame
    neurons: pl.DataFrame
    experts: pl.DataFrame
    self_repression: pl.DataFrame

    def insert(self, con: duckdb.DuckDBPyConnection) -> None:
        """Put the tables' rows into the warehouse."""
        for name, frame in self.tables.items():
            con.register("new_rows", frame)
            con.execute(f"INSERT INTO {name} BY NAME FROM new_rows")
            con.unregister("new_rows")


def random_mechanisms(
    measurements: pl.DataFrame,
    *,
    n_layers: int,
    n_heads: int,
    prompts_per_unit: int,
    seed: int,
    prompts_in_document: int = 1,
    neuron_percent: int = 2,
    step: int = 1,
) -> Mechanisms:
    """Mechanisms of the measured rows: heavy tails, ties, zeros and both signs, in whole steps of 1e-4 logits.

    What later heads (MLPs) change adds up to the row's repair_attention (repair_mlp), if there are any; both are whole
    multiples of `step` * 1e-4. Neurons are those of each head's top `neuron_percent` % of rows, of all and of those after
    position 0, and add up to what their MLP changes. A head's own layer's MLP comes after it.
    """
    rng = np.random.default_rng(seed)
    unit = (pl.col("prompt_id") // prompts_per_unit).cast(pl.Int32).alias("unit")
    rows = measurements.with_columns(unit).sort(*_CELL, -pl.col("direct_effect"), "prompt_id", "pos")
    edges = _edges(rng, rows, n_layers, n_heads, step / STEPS)
    neurons = _neurons(rng, _tops(rows, neuron_percent), n_layers, edges)
    self_repression = _self_repression(rng, rows, n_layers, n_heads)
    places = rows.select("run_id", "prompt_id", "pos").unique().sort(pl.all())
    experts = random_experts(np.random.default_rng(seed + 1), edges)
    tables = {
        "edge_sums": _edge_sums(edges, prompts_in_document),
        "neuron_changes": _neuron_changes(neurons),
        "neuron_curves": _neuron_curves(neurons),
        "neuron_sums": _neuron_sums(neurons),
        "logit_lens": _logit_lens(rng, places, n_layers),
        "logprob_changes": _logprobs(rng, rows),
        "self_repression": _self_repression_sample(self_repression),
        "self_repression_sums": _self_repression_sums(self_repression),
        "routing_sums": routing_sums(experts, prompts_in_document),
        "expert_sums": expert_sums(experts),
    }
    return Mechanisms(tables, edges, neurons, experts, self_repression)


def _heavy(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray[np.int64]:
    """Whole steps, most of them small and a few very large; a low scale makes ties and zeros."""
    return np.clip(np.rint(rng.standard_t(1.6, shape) * scale), -90_000, 90_000).astype(np.int64)


def _top(rows: pl.DataFrame, percent: int) -> pl.DataFrame:
    """The first rows of every cell, which come by direct effect."""
    place = pl.int_range(1, pl.len() + 1).over(_CELL)
    return rows.filter(place <= pl.max_horizontal(1, pl.len().over(_CELL) * percent // 100))


def _tops(rows: pl.DataFrame, percent: int) -> pl.DataFrame:
    """The rows of both tops, those of both once."""
    with_first, later = (_top(of, percent).select(_ROW) for of in (rows, rows.filter(pl.col("pos") > 0)))
    flags = pl.lit(True)
    return (
        rows.join(with_first.with_columns(in_top2=flags), on=_ROW, how="left", maintain_order="left")
        .join(later.with_columns(in_top2_nobos=flags), on=_ROW, how="left", maintain_order="left")
        .with_columns(pl.col("in_top2", "in_top2_nobos").fill_null(False))
        .filter(pl.col("in_top2") | pl.col("in_top2_nobos"))
    )


def by_population(neurons: pl.DataFrame) -> pl.DataFrame:
    """The rows once for each population that they are in."""
    return pl.concat(
        neurons.filter(f"in_{name}").with_columns(population=pl.lit(name)).drop("in_top2", "in_top2_nobos")
        for name in NEURON_POPULATIONS
    )


def _cells(rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Number and rows of each run's, ablation's and head's cell."""
    yield from enumerate(rows.partition_by(_CELL, maintain_order=True))


def _edges(rng: np.random.Generator, rows: pl.DataFrame, n_layers: int, n_heads: int, step: float) -> pl.DataFrame:
    frames = []
    for number, cell in _cells(rows):
        layer = cell["layer"][0]
        heads = [(one, head) for one in range(layer + 1, n_layers) for head in range(n_heads)]
        for kind, targets, total in (
            ("head", heads, "repair_attention"),
            ("mlp", [(one, None) for one in range(layer, n_layers)], "repair_mlp"),
        ):
            if not targets:
                continue
            changes = _heavy(rng, (cell.height, len(targets)), (1.5, 60)[number % 2])
            changes[:, -1] += np.rint(cell[total].to_numpy() / step).astype(np.int64) - changes.sum(1)
            for i, (target_layer, target_head) in enumerate(targets):
                frames.append(
                    cell.select(*_ROW, "unit").with_columns(
                        target_kind=pl.lit(kind),
                        target_layer=pl.lit(target_layer, pl.Int16),
                        target_head=pl.lit(target_head, pl.Int16),
                        change=pl.Series(changes[:, i] * step),
                    )
                )
    every = pl.concat(frames)
    top = every.join(_top(rows, 2).select(_ROW), on=_ROW, how="semi")
    return pl.concat([every.with_columns(population=pl.lit("all")), top.with_columns(population=pl.lit("top2"))])


def _edge_sums(edges: pl.DataFrame, prompts_in_document: int) -> pl.DataFrame:
    key = [*_CELL, "unit", "population", "target_kind", "target_layer", "target_head"]
    change, n_rows, of_document = pl.col("change"), pl.col("n_rows"), pl.col("of_document")
    document = (pl.col("prompt_id") // prompts_in_document).alias("document")
    documents = edges.group_by(*key, document, maintain_order=True).agg(
        pl.len().alias("n_rows"), change.sum().alias("of_document"), (change * change).sum().alias("squared_change")
    )
    return documents.group_by(key, maintain_order=True).agg(
        n_rows.sum(),
        of_document.sum().alias("change"),
        pl.col("squared_change").sum(),
        pl.len().cast(pl.Int32).alias("n_clusters"),
        (n_rows * n_rows).sum().cast(pl.Float64).alias("squared_rows"),
        (n_rows * of_document).sum().alias("rows_by_change"),
        (of_document * of_document).sum().alias("squared_cluster_change"),
        pl.lit(None, pl.Int32).alias("document_id"),
    )


def _neurons(rng: np.random.Generator, top: pl.DataFrame, n_layers: int, edges: pl.DataFrame) -> pl.DataFrame:
    to_mlps = edges.filter(pl.col("population") == "all", pl.col("target_kind") == "mlp")
    of_mlps = top.join(
        to_mlps.select(*_ROW, "change", mlp_layer="target_layer"), on=_ROW, how="left", maintain_order="left"
    ).partition_by(*_CELL, "mlp_layer", as_dict=True, maintain_order=True)
    frames = []
    for number, cell in _cells(top):
        for mlp_layer in range(cell["layer"][0], n_layers):
            clean = _heavy(rng, (cell.height, D_MLP), (2, 90)[number % 2])
            # the same few neurons change more than the others
            changes = _heavy(rng, (cell.height, D_MLP), 1) * np.where(np.arange(D_MLP) % 7 == mlp_layer, 40, 3)
            of_mlp = of_mlps[*cell.select(_CELL).row(0), mlp_layer]["change"].to_numpy() * STEPS
            changes[:, -1] += np.rint(of_mlp).astype(np.int64) - changes.sum(1)
            frames.append(
                cell.select(*_ROW, "unit", "direct_effect", "in_top2", "in_top2_nobos")
                .with_columns(
                    mlp_layer=pl.lit(mlp_layer, pl.Int16),
                    neuron=pl.Series(np.tile(np.arange(D_MLP), (cell.height, 1))),
                    clean_effect=pl.Series(clean / STEPS),
                    change=pl.Series(changes / STEPS),
                )
                .explode("neuron", "clean_effect", "change")
            )
    size = pl.col("change").abs()
    rank = pl.struct(-size, "neuron").rank("ordinal").over(*_ROW, "mlp_layer").cast(pl.Int16)
    return pl.concat(frames).with_columns(rank.alias("rank"))


def _neuron_changes(neurons: pl.DataFrame) -> pl.DataFrame:
    ablated = (pl.col("clean_effect") + pl.col("change")).round(4).alias("ablated_effect")
    kept = neurons.filter(pl.col("rank") <= NEURONS_KEPT, pl.col("change") != 0).with_columns(ablated)
    return kept.drop("unit", "direct_effect", "change")


def _neuron_curves(neurons: pl.DataFrame) -> pl.DataFrame:
    neurons = by_population(neurons)
    change, row = pl.col("change"), [*_ROW, "population", "mlp_layer"]
    size = change.abs()
    nth, key = pl.col("nth"), [*_CELL, "unit", "population", "mlp_layer", "nth"]

    def curve(value: pl.Expr, prefix: str, total: str, share: str) -> pl.DataFrame:
        """Sums over rows of the nth highest of `value`."""
        place = value.rank("ordinal", descending=True).over(row).cast(pl.Int16).alias("nth")
        of_row = pl.when(value.clip(lower_bound=0).sum() > 0).then(value.clip(lower_bound=0).sum()).over(row)
        ranked = neurons.with_columns(place, (value.clip(lower_bound=0) / of_row).fill_null(0).alias("share"))
        exceeds = [
            (value > limit * pl.col("direct_effect")).sum().cast(pl.Int32).alias(prefix + name)
            for name, limit in CHANGE_SHARES.items()
        ]
        sums = value.sum().alias(total), pl.col("share").sum().alias(share)
        return ranked.filter(nth <= NEURONS_RANKED).group_by(key, maintain_order=True).agg(*exceeds, *sums)

    by_sign = curve(change, "signed_", "largest_repairs", "repair_shares")
    return curve(size, "", "largest_changes", "change_shares").join(by_sign, on=key)


def _neuron_sums(neurons: pl.DataFrame) -> pl.DataFrame:
    change, is_first = pl.col("change"), pl.col("rank") == 1
    return (
        by_population(neurons)
        .group_by(*_CELL, "unit", "population", "mlp_layer", maintain_order=True)
        .agg(
            is_first.sum().cast(pl.Int32).alias("n_rows"),
            pl.col("direct_effect").filter(is_first).sum(),
            change.sum().round(9),  # 0 where they cancel
            change.abs().sum().alias("absolute_change"),
            change.filter(change > 0).sum().alias("positive_change"),
            change.filter((change > 0) & (pl.col("clean_effect") < 0)).sum().alias("anti_erasure"),
            (is_first & (change != 0)).sum().cast(pl.Int32).alias("n_changed"),
        )
    )


def _logit_lens(rng: np.random.Generator, places: pl.DataFrame, n_layers: int) -> pl.DataFrame:
    rows = places.join(pl.DataFrame({"layer": range(n_layers)}, schema={"layer": pl.Int16}), how="cross")
    ranks = np.minimum(np.rint(rng.pareto(0.7, rows.height) * 3) + 1, 40_000)
    return rows.with_columns(
        logit=pl.Series(_heavy(rng, (rows.height,), 9_000) / STEPS),
        logprob=pl.Series(-abs(_heavy(rng, (rows.height,), 20_000)) / STEPS),
        rank=pl.Series(np.where(rng.random(rows.height) < 0.4, 1, ranks).astype(np.int32)),
    )


def _logprobs(rng: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(_ROW).with_columns(
        logprob_change=pl.Series(_heavy(rng, (rows.height,), 40) / STEPS),
        kl=pl.Series(abs(_heavy(rng, (rows.height,), 9)) / STEPS),
    )


def _self_repression(rng: np.random.Generator, rows: pl.DataFrame, n_layers: int, n_heads: int) -> pl.DataFrame:
    """Slopes of the own output below, near and above 1 by head; other heads' only where a layer has several."""
    frames = []
    late = rows.filter(
        pl.col("layer") >= n_layers // 2, pl.col("ablation") == pl.col("ablation").first().over("run_id")
    )
    for number, cell in _cells(late):
        x = np.rint(cell["direct_effect"].to_numpy() * STEPS)
        for added_vector, slope in (("own", (0.4, 1.7, 1.0)[number % 3]), ("other", 1.0), ("random", 1.02)):
            if added_vector == "other" and (n_heads == 1 or number % 5 == 4):
                continue
            for multiple in MULTIPLES:
                noise = _heavy(rng, (2, cell.height), 0.02 * max(1.0, float(np.std(x))) * multiple)
                y = np.rint(7 + slope * x) + noise[0]
                frames.append(
                    cell.select("run_id", "prompt_id", "pos", "layer", "head").with_columns(
                        added_vector=pl.lit(added_vector),
                        multiple=pl.lit(multiple, pl.Int16),
                        other_head=pl.lit((number + 1) % n_heads if added_vector == "other" else None, pl.Int16),
                        x=pl.Series(x / STEPS),
                        y=pl.Series(y / STEPS),
                        z=pl.Series((0.9 * y + noise[1]) / STEPS)
                        if added_vector != "random"
                        else pl.lit(None, pl.Float64),
                    )
                )
    return pl.concat(frames)


def _self_repression_sample(self_repression: pl.DataFrame) -> pl.DataFrame:
    sample = self_repression.filter((pl.col("prompt_id") + pl.col("pos")) % 5 == 0)
    return sample.rename({"x": "direct_effect", "y": "direct_effect_after", "z": "direct_effect_after_own_scale"})


def _self_repression_sums(self_repression: pl.DataFrame) -> pl.DataFrame:
    x, y, z = (pl.col(name) for name in "xyz")

    def measured(sums: pl.Expr) -> pl.Expr:
        return pl.when(z.is_not_null().any()).then(sums)

    return self_repression.group_by(
        "run_id", "prompt_id", "layer", "head", "added_vector", "multiple", maintain_order=True
    ).agg(
        pl.len().alias("n_rows"),
        x.sum().alias("sum_x"),
        (x * x).sum().alias("sum_xx"),
        y.sum().alias("sum_y"),
        (x * y).sum().alias("sum_xy"),
        (y * y).sum().alias("sum_yy"),
        measured(z.sum()).alias("sum_z"),
        measured((x * z).sum()).alias("sum_xz"),
        measured((z * z).sum()).alias("sum_zz"),
    )


def measured_frame(columns: Mapping[str, NDArray[Any]]) -> pl.DataFrame:
    """Columns of `measurements` as part files have them, ablations as codes, as rows of run 0."""
    frame = pl.DataFrame(dict(columns))
    names = pl.Series("ablation", [ABLATIONS[code] for code in frame["ablation"]])
    effects = pl.selectors.float().cast(pl.Float64).round(4)
    return frame.with_columns(names, effects, run_id=pl.lit(0, pl.Int32))


WITH_MECHANISMS = (1, 3, FAILED)
"""Runs among `random_runs` that `mechanism_runs` measures mechanisms of: several units, a single prompt, a failed run."""


def mechanism_runs(seed: int, neuron_percent: int = 10, step: int = 1) -> tuple[list[dict[str, Any]], Mechanisms]:
    """The rows of `random_runs`, and mechanisms of three of these runs (layers 0 to 3, heads 0 and 1)."""
    rows = random_runs(seed, step)
    frame = pl.DataFrame(rows).filter(pl.col("run_id").is_in(WITH_MECHANISMS))
    small = [pl.col("run_id", "prompt_id").cast(pl.Int32), pl.col("pos", "layer", "head").cast(pl.Int16)]
    return rows, random_mechanisms(
        frame.with_columns(small),
        n_layers=4,
        n_heads=2,
        prompts_per_unit=2,
        seed=seed,
        neuron_percent=neuron_percent,
        step=step,
    )


def as_parts_of_a_document(con: duckdb.DuckDBPyConnection, units: Sequence[int]) -> None:
    """Have the ledger say that these units of run 1 hold parts of one document."""
    con.executemany(
        "INSERT INTO units (run_id, unit, first_prompt, n_prompts, n_measurements, identity_error_max, manifest_sha256, "
        "measured_at, loaded_at, document_id) VALUES (1, ?, 0, 0, 0, 0, '', now(), now(), 9)",
        [[unit] for unit in units],
    )


def measured_mechanisms(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of runs that did not fail."""
    return frame.filter(pl.col("run_id") != FAILED)
