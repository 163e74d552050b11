"""Questions: their files, the values they take, and answers worked out again from the measured rows."""

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.stats import binomtest, t

from selfrepair.queries.catalog import questions
from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.header import HeaderError
from selfrepair.queries.catalog.parameters import Parameter
from selfrepair.queries.catalog.questions import bind, parse_question, question, with_run
from selfrepair.queries.catalog.shared import CLUSTERED, INTERVALS
from selfrepair.queries.catalog.which_run import RUNS
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError, errors_in
from selfrepair.warehouse.schema import PARTS
from support.empty import installed, with_marts, with_views
from support.fabricate import fabricate
from support.loaded import stored

HEAD = {"layer": 1, "head": 2}
GIVEN, FAILED = 3, 4
N_POSITIONS = 30
N_ROWS = 6 * N_POSITIONS
"""Rows of one head under one ablation."""

TEXT = """-- Which rows?
--
-- Grain: run_id
-- Paper: none
--
-- A paragraph.
--
-- Parameters:
--   layer INTEGER: Layer of
--     the head [layers]
--   kind first|second = second: Which one
--   share DOUBLE = 0.5: How much: a part [ratio]
--   words VARCHAR[] = []: Only these
--   last BOOLEAN = false: Whether
--   run_id INTEGER = NULL: The run
--
-- Columns:
--   n BIGINT: Rows [rows]

SELECT run_id, count(*) AS n -- not $unknown
FROM measurements
WHERE layer = $layer AND ($run_id IS NULL OR run_id = $run_id) AND $kind = '$dollar'
    AND $share > 0 AND $last AND list_contains($words, 'x')
GROUP BY run_id
"""

OF_THE_PAPER = {
    "A: the output changes less": {"output_change", "breakage_heads"},
    "B: how much, by what, where": {"most_repaired_heads", "figure_1", "parts_of_layer", "models_side_by_side"},
    "C: the final norm": {"norm_shrinkage", "norm_histogram", "frozen_norm"},
    "D: kinds of ablation": {"ablations_of_head", "ablations_that_disagree"},
    "E: noise": {"noise_of_head", "overrepaired_heads", "rows_of_head", "prompts_of_head"},
    "F: MLPs": {"mlp_repaired_heads", "strongest_rows", "neurons_of_head", "anti_erasure_neurons"},
    "G: iterative inference": {
        *(
            "repair_by_certainty",
            "repair_by_kind",
            "logit_lens_of_layer",
            "repair_where_wrong",
            "self_repression_of_heads",
        ),
    },
    "H: importance": {"missed_heads", "heaviest_tails", "tail_of_head", "measures_that_disagree"},
    "backup heads": {"who_repairs_head", "backup_heads_of_model", "hidden_backups"},
}
"""Questions about each of the paper's experiments."""

Frame = pl.DataFrame


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run 1 of one model, with post-norms, runs 2 and 3 of another, the latter with given heads, and run 4, which failed."""
    size = {"n_units": 2, "prompts_per_unit": 3, "seq_len": N_POSITIONS + 1, "mechanisms": True}
    models = (("a", "one"), ("b", "two"), ("c", "two"), ("d", "failed"))
    runs = [
        fabricate(f"run-{key}", model=model, seed=seed, post_norms=model == "one", **size)
        for seed, (key, model) in enumerate(models, 1)
    ]
    path = stored(tmp_path_factory.mktemp("db"), *runs)
    with duckdb.connect(path) as con:
        con.execute("UPDATE runs SET status = 'failed' WHERE run_id = ?", [FAILED])
        con.execute("UPDATE runs SET given_heads = [] WHERE run_id <> ?", [GIVEN])
        con.execute("UPDATE runs SET dataset_id = (SELECT dataset_id FROM runs WHERE run_id = 2) WHERE run_id = 3")
        con.execute("UPDATE tokens SET clean_rank = 1 WHERE (prompt_id + pos) % 3 = 0")
    return path


@pytest.fixture(scope="module")
def rows(reader: Reader) -> Frame:
    """Every measured row, with what the warehouse does not store."""
    frame = reader.frame(
        "SELECT *, 'L' || layer || 'H' || head AS label FROM measurements JOIN tokens USING (run_id, prompt_id, pos)"
    )
    removed = (pl.col("direct_effect") - pl.col("ablated_direct_effect")).cast(pl.Float64).round(4)
    return frame.with_columns(removed.alias("removed_effect")).with_columns(
        (pl.col("logit_change").cast(pl.Float64) + pl.col("removed_effect")).round(4).alias("self_repair")
    )


@pytest.fixture(scope="module")
def reader(db: Path) -> Any:
    with Reader(db) as reader:
        yield reader


def needed(name: str) -> dict[str, Any]:
    """A value for each parameter that a question cannot do without, here where few tokens come twice."""
    values = {"run_id": 2, "other_run_id": 3, "at_least": 1, **HEAD}
    takes = question(name).parameters
    return {key: values[key] for key, parameter in takes.items() if parameter.required or key == "at_least"}


def answer(reader: Reader, name: str, **params: Any) -> Frame:
    sql, values = bind(name, {**needed(name), **params})
    return reader.frame(sql, values)


def top(rows: Frame, share: float = 0.02) -> Frame:
    """Each head's rows with the highest direct effect."""
    place = pl.struct(-pl.col("direct_effect"), "prompt_id", "pos").rank("ordinal")
    groups = ["run_id", "ablation", "layer", "head"]
    n_top = (pl.len() * share).floor().clip(lower_bound=1)
    return rows.filter(place.over(groups) <= n_top.over(groups))


# The files


def test_every_file_is_a_question_and_no_view_has_its_name() -> None:
    files = {path.stem for path in (Path(questions.__file__).parents[1] / "questions").glob("*/*.sql")}
    assert files == questions.questions().keys()
    assert len(files) >= 18
    assert files.isdisjoint(catalog.relations())


def test_every_experiment_has_its_questions() -> None:
    assert set().union(*OF_THE_PAPER.values()) <= questions.questions().keys()


@pytest.fixture(scope="module")
def described() -> Mapping[str, catalog.Relation]:
    return catalog.catalogue((*catalog.views(), *questions.as_views(questions.questions().values())))


@pytest.fixture(scope="module")
def empty() -> Iterator[duckdb.DuckDBPyConnection]:
    with with_marts() as con:
        yield con


@pytest.mark.parametrize("name", questions.questions())
def test_every_column_is_described_as_it_comes(
    name: str, described: Mapping[str, catalog.Relation], empty: duckdb.DuckDBPyConnection
) -> None:
    sql, values = bind(name, needed(name))
    columns = [(column[0], column[1]) for column in empty.execute(f"DESCRIBE {sql}", values).fetchall()]
    assert [(column.name, column.type) for column in described[name].columns] == columns
    assert {"run_id", "model"} <= {column.name for column in described[name].columns}
    assert empty.execute(sql, values).fetchall() == []


def test_intervals_come_with_the_number_of_their_clusters(described: Mapping[str, catalog.Relation]) -> None:
    for name, relation in described.items():
        names = {column.name for column in relation.columns}
        of_intervals = {name + suffix for name in names for suffix in INTERVALS} & names
        clustered = of_intervals | {column.name for column in relation.columns if CLUSTERED in column.description}
        assert not clustered or "n_clusters" in names, (name, clustered)
        assert clustered.isdisjoint(relation.headline) or "n_clusters" in relation.headline, name


@pytest.mark.parametrize("name", questions.questions())
def test_an_answer_has_a_row_a_grain_and_every_run_that_did_not_fail(name: str, reader: Reader) -> None:
    frame = answer(reader, name)
    assert not frame.select(question(name).view.grain).is_duplicated().any()
    runs = {2} if "other_run_id" in frame.columns else {1, 2, 3}
    if name == "run_checks":
        runs.add(FAILED)
    if name == "hidden_backups":
        runs = {GIVEN}
    assert set(frame["run_id"]) == runs
    if "run_id" in question(name).parameters and name != "compare_runs":
        for chosen, run_id in (({"run_id": 3}, 3), ({"model": "one"}, 1)):
            # sums of ratios are added up in another order
            assert_frame_equal(answer(reader, name, **chosen), frame.filter(run_id=run_id), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize(
    "name", [name for name, asked in questions.questions().items() if "at_most" in asked.parameters]
)
def test_at_most_so_many_rows_of_each_run(name: str, reader: Reader) -> None:
    all_rows = answer(reader, name, at_most=10_000)
    frame = answer(reader, name, at_most=2)
    counts = all_rows.group_by("run_id").len()
    assert counts["len"].max() > 2  # type: ignore[operator]
    assert frame.height == counts["len"].clip(upper_bound=2).sum()
    assert frame.join(all_rows, on=frame.columns, how="anti", nulls_equal=True).is_empty()


# Answers, against the measured rows


def test_output_change_and_its_verdict(reader: Reader, rows: Frame) -> None:
    found = answer(reader, "output_change", ablation="zero", run_id=1)
    wanted = (
        rows.filter(run_id=1, ablation="zero")
        .group_by("layer", "head")
        .agg(pl.col("direct_effect", "logit_change", "self_repair").cast(pl.Float64).mean())
        .sort("layer", "head")
    )
    for mine, column in (("direct_effect", "mean_direct_effect"), ("logit_change", "mean_logit_change")):
        assert found[column].to_list() == pytest.approx(wanted[mine].to_list(), abs=1e-6)
    assert set(found["verdict"]) == {"not enough data"}  # of three documents


def test_a_head_is_repaired_or_broken_by_a_margin_among_all_heads(fill: Any, one_row: Any) -> None:
    """Each head loses 1 logit of direct effect in all prompts; what comes back has a mean and a spread of its own."""
    spread = np.where(np.arange(20) % 2, 1, -1)
    error = np.sqrt(1 / 19)  # of a mean of +-1
    wanted = {
        "self-repaired": 0.2 + 0 * spread,
        "breakage": -0.2 + 0 * spread,
        "neither": 0.05 + 0 * spread,
        "not enough data": 0.1 + error * spread,
    }
    repairs = [*wanted.values(), 0.1 + 0.02 * spread + 2.5 * 0.02 * error]  # alone, its interval would lie above 0.1
    rows = [
        one_row(
            prompt_id=n,
            layer=0,
            head=head,
            direct_effect=1.0,
            ablated_direct_effect=0.0,
            logit_change=float(np.round(repair[n], 4)) - 1,
        )
        for head, repair in enumerate(repairs)
        for n in range(20)
    ]
    with with_views() as con:
        fill(con, rows)
        sql, values = bind("output_change", {"ablation": "resample"})
        found = con.execute(f"SELECT verdict FROM ({sql}) ORDER BY head", values).fetchall()
    assert [verdict for (verdict,) in found] == [*wanted, "unclear"]


def test_the_most_repaired_heads_and_the_least(reader: Reader, rows: Frame) -> None:
    repair = pl.col("self_repair").mean()
    means = top(rows.filter(run_id=2, ablation="resample")).group_by("label").agg(repair).sort("self_repair")
    found = answer(reader, "most_repaired_heads", run_id=2, at_most=3)
    assert found["label"].to_list() == means["label"].to_list()[:-4:-1]
    assert found["mean_self_repair"].to_list() == pytest.approx(means["self_repair"].to_list()[:-4:-1])
    broken = answer(reader, "breakage_heads", run_id=2)
    assert broken["label"].to_list() == means.filter(pl.col("self_repair") < 0)["label"].to_list()


def test_figure_1_has_a_dot_a_head_and_a_line_of_layers(reader: Reader) -> None:
    found = answer(reader, "figure_1", run_id=1)
    dots, line = found.filter(level="head"), found.filter(level="layer")
    assert (dots.height, line.height) == (12, 3)
    assert line["depth"].to_list() == pytest.approx([0, 100 / 3, 200 / 3])
    means = dots.group_by("layer").agg(pl.col("^mean_.*$|^clipped_.*$").mean()).sort("layer")
    for name in means.columns[1:]:
        assert line[name].to_list() == pytest.approx(means[name].to_list()), name


@pytest.mark.parametrize(("run_id", "last"), [(1, ["mlp", "post_norm"]), (2, ["mlp"])])
def test_the_parts_of_a_layer_add_up(run_id: int, last: list[str], reader: Reader) -> None:
    found = answer(reader, "parts_of_layer", run_id=run_id, population="all")
    assert found.filter(head=0)["part"].to_list() == ["total", "attention", "layernorm", *last]
    bounded = found.filter(pl.col("fraction_low").is_not_null())
    assert bounded.height > 8
    assert (bounded["fraction_low"] <= bounded["fraction_of_effect"]).all()
    assert (bounded["fraction_of_effect"] <= bounded["fraction_high"]).all()
    by_part = found.group_by("head", part_of=pl.col("part") != "total").agg(
        pl.col("mean_repair", "fraction_of_effect").sum()
    )
    sums = by_part.filter("part_of").sort("head")
    totals = by_part.filter(~pl.col("part_of")).sort("head")
    for name in ("mean_repair", "fraction_of_effect"):
        assert sums[name].to_list() == pytest.approx(totals[name].to_list(), abs=1e-3)


def test_models_side_by_side(reader: Reader, rows: Frame) -> None:
    ratio = (pl.col("repair_layernorm").cast(pl.Float64) / pl.col("direct_effect")).clip(0, 1).mean()
    heads = (
        top(rows.filter(run_id=3, ablation="mean"))
        .group_by("layer", "head")
        .agg(ratio.alias("ratio"), pl.col("self_repair").mean())
    )
    (found,) = answer(reader, "models_side_by_side", run_id=3, ablation="mean").to_dicts()
    late = heads.filter(pl.col("layer") == 2)  # of three layers, 0 and 1 begin before the middle
    assert (found["n_heads"], found["late_heads"]) == (12, 4)
    assert found["late_repaired_share"] == (late["self_repair"] > 0).mean()
    assert found["mean_layernorm_fraction"] == pytest.approx(heads["ratio"].mean(), rel=1e-6)
    of_text = reader.frame(
        "SELECT clipped_layernorm_fraction_se AS se FROM model_repair WHERE run_id = 3 AND ablation = 'mean' "
        "AND population = 'top2'"
    )["se"][0]
    half = t.ppf(0.975, 2) * np.hypot(heads["ratio"].std() / np.sqrt(12), of_text)  # three documents
    ends = (found["mean_layernorm_fraction_low"], found["mean_layernorm_fraction_high"])
    assert ends == pytest.approx((heads["ratio"].mean() - half, heads["ratio"].mean() + half), rel=1e-5)
    known = reader.frame(
        "SELECT mean_self_repair AS mean, mean_self_repair_se AS se FROM head_repair WHERE run_id = 3 AND layer = 2 "
        "AND ablation = 'mean' AND population = 'top2'"
    )
    half = t.ppf(0.975, 2) * known["se"]
    for end, n in (("low", (known["mean"] > half).sum()), ("high", (known["mean"] > -half).sum())):
        wilson = binomtest(n, 4).proportion_ci(method="wilson")
        assert found[f"late_repaired_share_{end}"] == pytest.approx(getattr(wilson, end), abs=1e-9)


def test_runs_of_answers_are_marked(db: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(db, tmp_path))
    with duckdb.connect(path) as con:
        con.execute("UPDATE runs SET logit_of = 'answer' WHERE run_id = 1")
        con.execute("UPDATE runs SET logit_of = NULL WHERE run_id = 2")
    known = {1: "answer", 2: "next_token", 3: "next_token"}
    with Reader(path) as reader:
        for name in ("models_side_by_side", "figure_1"):
            assert dict(answer(reader, name).select("run_id", "logit_of").unique().rows()) == known, name
        runs = reader.frame(RUNS).select("run_id", "logit_of").rows()
        used = dict(answer(reader, "most_repaired_heads").select("run_id", "n_rows").unique().rows())
        by_population = reader.frame("SELECT DISTINCT run_id, population, n_rows FROM head_repair").rows()
    assert used == {
        run: n for run, population, n in by_population if population == ("all" if known[run] == "answer" else "top2")
    }
    assert dict(runs) == known | {FAILED: "next_token"}


def test_ablations_that_disagree(reader: Reader, rows: Frame) -> None:
    means = rows.filter(run_id=1).group_by("label", "ablation").agg(pl.col("self_repair").mean())
    wide = means.cast({"ablation": pl.String}).pivot("ablation", index="label", values="self_repair")
    spread = pl.max_horizontal(pl.exclude("label")) - pl.min_horizontal(pl.exclude("label"))
    wanted = wide.with_columns(spread.alias("spread")).sort("spread", descending=True)
    found = answer(reader, "ablations_that_disagree", run_id=1, population="all")
    assert found["label"].to_list() == wanted["label"].to_list()
    pairs = {"self_repair_range": "spread", "under_resample": "resample", "under_mean": "mean", "under_zero": "zero"}
    for name, mine in pairs.items():
        assert found[name].to_list() == pytest.approx(wanted[mine].to_list()), name


def test_norm_histograms_are_of_a_head_or_of_all(reader: Reader) -> None:
    whole = answer(reader, "norm_histogram", run_id=1)
    of_head = answer(reader, "norm_histogram", run_id=1, **HEAD)
    assert whole.group_by("ablation").agg(pl.col("n_rows").sum())["n_rows"].to_list() == [N_ROWS * 12] * 3
    assert of_head.group_by("ablation").agg(pl.col("n_rows").sum())["n_rows"].to_list() == [N_ROWS] * 3


def test_rows_of_head_are_the_same_for_every_ablation(reader: Reader, rows: Frame) -> None:
    drawn = [answer(reader, "rows_of_head", run_id=1, ablation=kind, at_most=30) for kind in ("resample", "zero")]
    assert drawn[0].select("prompt_id", "pos").equals(drawn[1].select("prompt_id", "pos"))
    assert drawn[0].height == 30
    n_drawn_prompts = min(6, math.ceil(3 * 30 / N_POSITIONS))
    assert drawn[0]["prompt_id"].n_unique() == n_drawn_prompts
    everything = answer(reader, "rows_of_head", run_id=1)
    wanted = rows.filter(run_id=1, ablation="resample", **HEAD).sort("prompt_id", "pos")
    assert everything["repair_mlp"].equals(wanted["repair_mlp"])


def test_prompts_of_head(reader: Reader, rows: Frame) -> None:
    mine = rows.filter(run_id=2, ablation="resample", **HEAD)
    means = mine.group_by("prompt_id").agg(pl.col("self_repair").mean()).sort("self_repair", descending=True)
    found = answer(reader, "prompts_of_head", run_id=2)
    assert found["prompt_id"].to_list() == means["prompt_id"].to_list()
    assert found["mean_self_repair"].to_list() == pytest.approx(means["self_repair"].to_list())
    texts = dict(reader.frame("SELECT prompt_id, text FROM prompts WHERE run_id = 2").rows())
    assert found["beginning"].to_list() == [texts[prompt_id][:60] for prompt_id in found["prompt_id"]]


@pytest.mark.parametrize("sort", ["direct_effect", "self_repair", *PARTS])
def test_the_strongest_rows_with_their_text(sort: str, reader: Reader, rows: Frame) -> None:
    mine = top(rows.filter(run_id=1, ablation="mean", **HEAD))
    wanted = mine.sort(pl.col(sort), descending=True)
    found = answer(reader, "strongest_rows", run_id=1, ablation="mean", sort=sort, context=3)
    assert found.select("prompt_id", "pos").rows() == wanted.select("prompt_id", "pos").rows()
    for row in found.to_dicts():
        tokens = rows.filter(run_id=1, prompt_id=row["prompt_id"], ablation="mean", **HEAD).sort("pos")
        first = max(0, row["pos"] - 2)
        assert row["context"] == "".join(tokens["token"].to_list()[first : row["pos"] + 1])
        assert row["target"] == tokens["target"][row["pos"]]


def test_repair_by_certainty(reader: Reader, rows: Frame) -> None:
    wanted = (
        rows.filter(run_id=1, ablation="zero", **HEAD)
        .group_by(is_first_choice=pl.col("clean_rank") == 1, entropy_low=pl.col("clean_entropy").floor().cast(pl.Int32))
        .agg(
            pl.len().alias("n_rows"),
            pl.col("self_repair").mean().alias("mean_self_repair"),
            (pl.col("self_repair") > 0).mean().alias("repaired_share"),
        )
        .sort(pl.col("is_first_choice"), -pl.col("entropy_low"), descending=True)
    )
    found = answer(reader, "repair_by_certainty", run_id=1, ablation="zero")
    assert found["is_first_choice"].n_unique() == 2
    for name in wanted.columns:
        assert found[name].to_list() == pytest.approx(wanted[name].to_list(), abs=1e-9), name


def test_the_most_repaired_tokens(reader: Reader, rows: Frame) -> None:
    wanted = (
        rows.filter(run_id=1, ablation="resample", **HEAD)
        .group_by("target_id", "target")
        .agg(pl.len().alias("n_rows"), pl.col("self_repair", "direct_effect").cast(pl.Float64).mean())
        .filter(pl.col("n_rows") >= 2)
        .sort("self_repair", descending=True)
    )
    found = answer(reader, "most_repaired_tokens", run_id=1, at_least=2, at_most=1000)
    assert found["target"].to_list() == wanted["target"].to_list()
    assert found["mean_self_repair"].to_list() == pytest.approx(wanted["self_repair"].to_list())
    assert found["mean_direct_effect"].to_list() == pytest.approx(wanted["direct_effect"].to_list(), abs=1e-6)
    assert answer(reader, "most_repaired_tokens", run_id=1, at_least=100).is_empty()


def test_the_rows_of_every_kind_of_token_are_all_rows(reader: Reader) -> None:
    for dimension in ("token_class", "position", "logprob_decile"):
        found = answer(reader, "repair_by_kind", run_id=1, population="all", dimension=dimension, **HEAD)
        assert found["n_rows"].sum() == N_ROWS
        assert found["bucket_order"].is_sorted()


def test_missed_heads_fall_behind(reader: Reader, rows: Frame) -> None:
    means = (
        rows.filter(run_id=1, ablation="resample")
        .group_by("label")
        .agg(pl.col("direct_effect", "logit_change").cast(pl.Float64).mean())
        .with_columns(
            pl.col("direct_effect").rank("ordinal", descending=True).alias("by_effect"),
            pl.col("logit_change").rank("ordinal").alias("by_change"),
        )
    )
    missed = means.filter(pl.col("by_effect") <= 8, pl.col("by_change") > pl.col("by_effect"))
    found = answer(reader, "missed_heads", run_id=1, among=8)
    assert set(found["label"]) == set(missed["label"])
    assert found["rank_difference"].is_sorted(descending=True)
    assert found.height > 0


def test_the_papers_own_choice_comes_first(reader: Reader) -> None:
    found = answer(reader, "fraction_by_choice", run_id=1).row(0, named=True)
    assert (found["top_percent"], found["with_first"], found["average"]) == (2, True, "mean of ratios")
    assert found["clipped"] is True
    (whole,) = reader.frame(
        "SELECT COLUMNS('_(low|high)$') FROM model_repair WHERE run_id = 1 AND ablation = 'resample' AND population = 'top2'"
    ).to_dicts()
    name = "clipped_layernorm_fraction"
    assert (found["fraction_low"], found["fraction_high"]) == (whole[f"{name}_low"], whole[f"{name}_high"])
    (sides,) = answer(reader, "models_side_by_side", run_id=1).to_dicts()
    assert found["fraction"] == pytest.approx(sides["mean_layernorm_fraction"])


def test_fractions_by_choice_have_the_intervals_of_their_views(reader: Reader) -> None:
    """Of one head: where all rows or the top 2 % are used those of head_repair, and everywhere one that holds the fraction."""
    found = answer(reader, "fraction_by_choice", run_id=1, part="mlp", **HEAD)
    label = f"L{HEAD['layer']}H{HEAD['head']}"
    of_head = reader.frame(f"FROM head_repair WHERE run_id = 1 AND ablation = 'resample' AND label = '{label}'")
    views = {
        (row["population"] != "top2_nobos", {"all": 100}.get(row["population"], 2)): row for row in of_head.to_dicts()
    }
    n_equal = n_without = 0
    for row in found.to_dicts():
        low, high = row["fraction_low"], row["fraction_high"]
        view = views.get((row["with_first"], row["top_percent"]))
        of_means = row["average"] == "ratio of means"
        if view and of_means != row["clipped"]:
            name = "mlp_fraction_of_effect" if of_means else "clipped_mlp_fraction"
            assert (low, high) == (view[f"{name}_low"], view[f"{name}_high"]), row
            n_equal += 1
        assert row["n_clusters"] == of_head["n_clusters"][0]
        if low is None:
            assert high is None
            n_without += 1
        else:
            assert low <= row["fraction"] <= high, row
    assert n_equal == 2 * len(views)
    assert 0 < n_without < found.height / 2


@pytest.mark.parametrize("other_run_id", [3, 1])
def test_two_runs_are_compared_head_by_head(other_run_id: int, reader: Reader, rows: Frame) -> None:
    """Paired by document where they are of the same prompts, as runs 2 and 3 are; run 1 is of others."""
    heads = reader.frame("SELECT * FROM head_repair WHERE ablation = 'zero' AND population = 'all'")
    one, other = (heads.filter(run_id=run_id).sort("layer", "head") for run_id in (2, other_run_id))
    found = answer(reader, "compare_runs", ablation="zero", population="all", other_run_id=other_run_id)
    assert found["difference"].abs().is_sorted(descending=True)
    found = found.sort("layer", "head")
    difference = one["mean_self_repair"] - other["mean_self_repair"]
    if other_run_id == 3:
        mine = rows.filter(pl.col("run_id").is_in([2, 3]), ablation="zero").with_columns(
            pl.when(run_id=2).then(1).otherwise(-1).alias("side"),
            (pl.col("prompt_id") // 2).alias("document"),
            (pl.col("self_repair") - pl.col("self_repair").mean().over("run_id", "layer", "head")).alias("residual"),
        )
        sums = mine.group_by("layer", "head", "document").agg((pl.col("side") * pl.col("residual")).sum())
        n_rows = rows.filter(run_id=2, ablation="zero", layer=0, head=0).height
        squares = sums.group_by("layer", "head").agg((pl.col("side") ** 2).sum()).sort("layer", "head")["side"]
        error = (3 / 2 * squares).sqrt() / n_rows
    else:
        error = (one["mean_self_repair_se"] ** 2 + other["mean_self_repair_se"] ** 2).sqrt()
    assert found["difference"].to_list() == pytest.approx(difference.to_list())
    assert found["difference_in_se"].to_list() == pytest.approx((difference / error).to_list(), rel=1e-3)
    half = found["difference_high"] - found["difference"]
    assert (half / error).to_list() == pytest.approx([half[0] / error[0]] * 12, rel=1e-3)
    assert half[0] / error[0] > t.isf(0.025 / 12, 2)  # for 12 heads together
    assert (set(found["other_run_id"]), set(found["other_model"])) == ({other_run_id}, set(other["model"]))


# Answers about mechanisms


def test_who_repairs_one_head(reader: Reader, rows: Frame) -> None:
    found = answer(reader, "who_repairs_head", run_id=1, ablation="zero", population="all", at_most=100)
    mine = rows.filter(run_id=1, ablation="zero", **HEAD)
    for kind, part in (("head", "repair_attention"), ("mlp", "repair_mlp")):
        alone = answer(reader, "who_repairs_head", run_id=1, ablation="zero", population="all", kind=kind)
        assert alone.equals(found.filter(pl.col("target_kind") == kind))
        assert alone["mean_change"].sum() == pytest.approx(mine[part].cast(pl.Float64).mean(), abs=1e-6)
    assert found["target_rank"].to_list() == list(range(1, 7))  # four heads of layer 2, the MLPs of layers 1 and 2
    assert found["mean_change"].is_sorted(descending=True)


def test_backups_and_hidden_ones(reader: Reader) -> None:
    found = answer(reader, "backup_heads_of_model", run_id=1)
    assert found["score"].is_sorted(descending=True)
    assert set(found["n_ablated"]) == {4, 8}
    assert set(answer(reader, "backup_heads_of_model", run_id=1, at_least=5)["n_ablated"]) == {8}
    hidden = answer(reader, "hidden_backups", at_most=1000)
    assert set(hidden["base_run_id"]) == {2}
    assert "L0H3" not in hidden["label"].to_list()
    for _, of_run in hidden.group_by("run_id", "ablation"):
        assert of_run["direct_effect_growth"].is_sorted(descending=True)


def test_experts_that_are_chosen_anew(reader: Reader) -> None:
    of = {"run_id": 1, "ablation": "mean", "population": "all"}
    pairs = answer(reader, "heads_that_reroute", **of, at_most=1000)
    assert pairs.height == 4 * (3 + 2 + 1)
    assert pairs["rerouted_share"].is_sorted(descending=True)
    found = answer(reader, "experts_of_head", **of, **HEAD, at_most=1000)
    in_each = found.group_by("mlp_layer").agg(pl.col("mean_change").sum()).sort("mlp_layer")
    mine = pairs.filter(**HEAD).sort("mlp_layer")
    wanted = mine["mean_rerouted_change"] + mine["mean_kept_change"]
    assert in_each["mean_change"].to_list() == pytest.approx(wanted.to_list(), abs=1e-9)
    alone = answer(reader, "experts_of_head", **of, **HEAD, mlp_layer=2, at_most=1000)
    assert alone.equals(found.filter(mlp_layer=2))
    assert answer(reader, "experts_of_head", **of, **HEAD, at_most=2).equals(found.head(2))


def test_neurons_of_one_head(reader: Reader) -> None:
    """Of a head whose top has a row at position 0."""
    at_first = "FROM neuron_changes WHERE run_id = 1 AND ablation = 'mean' AND NOT in_top2_nobos"
    ((layer, head),) = reader.frame(f"SELECT DISTINCT layer, head {at_first} ORDER BY ALL LIMIT 1").rows()
    answers = []
    for population in ("top2", "top2_nobos"):
        changes = reader.frame(
            "SELECT mlp_layer, neuron, sum(ablated_effect::DOUBLE - clean_effect) AS change FROM neuron_changes "
            f"WHERE run_id = 1 AND ablation = 'mean' AND layer = {layer} AND head = {head} AND in_{population} GROUP BY ALL"
        )
        of = {"run_id": 1, "ablation": "mean", "population": population, "layer": layer, "head": head}
        found = answer(reader, "neurons_of_head", **of, at_most=1000)
        both = found.join(changes, on=["mlp_layer", "neuron"])
        assert both.height == found.height == changes.height
        assert (both["mean_change_of_row"] * both["n_rows"]).to_list() == pytest.approx(
            both["change"].to_list(), abs=1e-6
        )
        assert found["mean_change_of_row"].abs().round(9).is_sorted(descending=True)
        alone = answer(reader, "neurons_of_head", **of, mlp_layer=2, at_most=1000)
        assert alone.equals(found.filter(mlp_layer=2))
        answers.append(found)
    assert answers[0].rows() != answers[1].rows()
    with pytest.raises(SelfRepairError, match=r"takes top2 or top2_nobos, not 'all'\."):
        answer(reader, "neurons_of_head", run_id=1, population="all")


def test_neurons_that_erase_less_for_many_heads(reader: Reader) -> None:
    uses = reader.frame(
        "FROM anti_erasure WHERE run_id = 1 AND ablation = 'resample' AND population = 'top2' AND n_anti_erasure > 0"
    )
    wanted = (
        uses.filter(pl.col("n_anti_erasure") >= 0.5 * pl.col("n_rows"))
        .group_by("mlp_layer", "neuron")
        .agg(
            pl.len().alias("n_heads"),
            pl.col("n_anti_erasure").sum(),
            ((pl.col("mean_change") * pl.col("n_stored")).sum() / pl.col("n_stored").sum()).alias("mean_change"),
        )
        .sort(-pl.col("n_heads").cast(pl.Int64), -pl.col("n_anti_erasure"), "mlp_layer", "neuron")
    )
    found = answer(reader, "anti_erasure_neurons", run_id=1, often=0.5, at_most=1000)
    for name in ("mlp_layer", "neuron", "n_heads", "n_anti_erasure"):
        assert found[name].to_list() == wanted[name].to_list(), name
    assert found["mean_change"].to_list() == pytest.approx(wanted["mean_change"].to_list())
    assert found["n_heads"].max() > 1  # type: ignore[operator]
    assert [len(heads.split(", ")) for heads in found["heads"]] == [min(5, n) for n in found["n_heads"]]


def test_logit_lens_and_where_they_are_wrong(reader: Reader) -> None:
    found = answer(reader, "logit_lens_of_layer", run_id=1)
    assert found["layer"].to_list() == [0, 1, 2]
    assert answer(reader, "logit_lens_of_layer", run_id=1, layer=1).equals(found.filter(layer=1))
    wrong = answer(reader, "repair_where_wrong", run_id=1)
    assert wrong["self_repair_difference"].is_sorted(descending=True)
    difference = wrong["mean_self_repair_wrong"] - wrong["mean_self_repair_right"]
    assert wrong["self_repair_difference"].to_list() == pytest.approx(difference.to_list())
    assert (wrong["n_right"] + wrong["n_wrong"]).to_list() == [N_ROWS] * 12


def test_feedback_and_its_verdicts(reader: Reader) -> None:
    found = answer(reader, "self_repression_of_heads", run_id=1, multiple=3)
    assert found["slope"].is_sorted()
    alone = answer(reader, "self_repression_of_heads", run_id=1, multiple=3, verdict="not enough data")
    assert 0 < alone.height < found.height
    assert alone.equals(found.filter(verdict="not enough data"))
    assert answer(reader, "self_repression_of_heads", run_id=1, multiple=7).is_empty()


def test_measures_that_disagree(reader: Reader) -> None:
    found = answer(reader, "measures_that_disagree", run_id=1)
    ranks = found.select("logit_size_rank", "logprob_size_rank", "kl_rank")
    assert found["rank_range"].to_list() == [max(row) - min(row) for row in ranks.rows()]
    assert found["rank_range"].is_sorted(descending=True)
    assert sorted(found["kl_rank"]) == list(range(1, 13))


# What a question takes


def test_a_file_is_read() -> None:
    asked = parse_question("mine", TEXT)
    assert (asked.view.summary, asked.view.notes) == ("Which rows?", ("A paragraph.",))
    assert list(asked.parameters.values()) == [
        Parameter("layer", "INTEGER", "Layer of the head", "layers", required=True),
        Parameter("kind", "first|second", "Which one", default="second", choices=("first", "second")),
        Parameter("share", "DOUBLE", "How much: a part", "ratio", default=0.5),
        Parameter("words", "VARCHAR[]", "Only these", default=[]),
        Parameter("last", "BOOLEAN", "Whether", default=False),
        Parameter("run_id", "INTEGER", "The run", default=None),
    ]
    assert [parameter.sql_type for parameter in asked.parameters.values()] == [
        *("INTEGER", "VARCHAR", "DOUBLE", "VARCHAR[]", "BOOLEAN", "INTEGER")
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--   layer INTEGER: Layer of\n--     the head [layers]\n", "", "the SELECT uses kind, last, layer, run_id"),
        ("$share > 0 AND ", "", "'Parameters:' describes kind, last, layer, run_id, share, words"),
        ("share DOUBLE = 0.5", "share DECIMAL = 0.5", "parameter 'share' has type DECIMAL; it can have VARCHAR"),
        (
            "share DOUBLE = 0.5",
            "share DOUBLE = half",
            "the default of parameter 'share': it takes a number, not 'half'",
        ),
        ("= second", "= third", "the default of parameter 'kind': it takes first or second, not 'third'"),
        (
            "--   last BOOLEAN = false: Whether",
            "--   last",
            "a parameter reads 'name TYPE = default: description [unit]'",
        ),
        ("--   last BOOLEAN", "--   share BOOLEAN", "parameter 'share' is described twice"),
        ("-- Paper: none\n", "", "the header has no line 'Paper: ...'"),
        ("-- Paper: none\n", "-- Paper: none\n-- Kept: mart\n", "a question is not kept"),
    ],
)
def test_what_a_file_gets_wrong_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(HeaderError) as raised:
        parse_question("mine", TEXT.replace(old, new))
    assert str(raised.value).startswith("questions/mine.sql: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        ("VARCHAR", "9", "9"),
        ("INTEGER", " 9", 9),
        ("INTEGER", 9, 9),
        ("INTEGER", "-1", -1),
        ("DOUBLE", "1e-3", 0.001),
        ("DOUBLE", 2, 2.0),
        ("BOOLEAN", "True", True),
        ("BOOLEAN", False, False),
        ("INTEGER[]", "1, 2", [1, 2]),
        ("INTEGER[]", "[3]", [3]),
        ("INTEGER[]", (4, "5"), [4, 5]),
        ("INTEGER[]", 6, [6]),
        ("VARCHAR[]", "", []),
        ("INTEGER", "NULL", None),
        ("VARCHAR", None, None),
    ],
)
def test_text_and_python_values_become_the_type(kind: str, value: object, parsed: object) -> None:
    found = Parameter("p", kind, "P").parse(value)
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("VARCHAR", 9, "takes text, not 9"),
        ("INTEGER", "nine", "takes a whole number, not 'nine'"),
        ("INTEGER", 1.5, "takes a whole number, not 1.5"),
        ("INTEGER", True, "takes a whole number, not True"),
        ("INTEGER", 2**31, "takes a whole number"),
        ("DOUBLE", "nan", "takes a number, not 'nan'"),
        ("DOUBLE", [], "takes a number"),
        ("BOOLEAN", "yes", "takes true or false, not 'yes'"),
        ("INTEGER[]", "1,x", "takes whole numbers, separated by commas, not 'x'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(kind: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Parameter("p", kind, "P").parse(value)


def test_null_is_only_for_parameters_that_may_be_left_out() -> None:
    for parameter in (Parameter("p", "INTEGER", "P", required=True), Parameter("p", "INTEGER", "P", default=1)):
        for value in (None, "NULL"):
            with pytest.raises(ValueError, match="takes a whole number, not"):
                parameter.parse(value)


def test_binding_fills_in_what_is_left_out() -> None:
    sql, values = bind("strongest_rows", {"layer": "9", "head": 6, "run": "2"})
    assert sql == question("strongest_rows").sql
    assert values == {
        "model": None,
        "run_id": 2,
        "ablation": "resample",
        "layer": 9,
        "head": 6,
        "sort": "direct_effect",
        "context": 8,
        "at_most": 20,
    }


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("figure_2", {}, "there is no question 'figure_2'; did you mean figure_1? See: selfrepair questions"),
        ("xyzzy", {}, "there is no question 'xyzzy'. See: selfrepair questions"),
        (
            "run_checks",
            {"modl": "a"},
            "question 'run_checks' has no parameter 'modl'; did you mean model? It takes: model, run_id. "
            "See: selfrepair describe run_checks",
        ),
        (
            "tail_of_head",
            {"head": 1},
            "question 'tail_of_head' needs layer: selfrepair query tail_of_head --param head=L9H6. "
            "See: selfrepair describe tail_of_head",
        ),
        (
            "run_checks",
            {"run_id": 1.5},
            "parameter 'run_id' of question 'run_checks' takes a run's number or name, not 1.5. "
            "See: selfrepair describe run_checks",
        ),
        (
            "figure_1",
            {"ablation": "zer"},
            "parameter 'ablation' of question 'figure_1' takes resample or mean or zero, not 'zer'. "
            "See: selfrepair describe figure_1",
        ),
    ],
)
def test_what_a_caller_gets_wrong_is_said(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(SelfRepairError) as raised:
        bind(name, params)
    assert str(raised.value) == message


@pytest.mark.parametrize("given", [{"head": "L9H6"}, {"head": " l9h6", "layer": "9"}, {"head": "L9H6", "layer": 9}])
def test_a_heads_name_stands_for_its_layer_too(given: dict[str, Any]) -> None:
    for name in ("tail_of_head", "repair_by_kind"):
        _, values = bind(name, given)
        assert (values["layer"], values["head"]) == (9, 6)


def test_a_heads_name_and_another_layer_contradict_each_other() -> None:
    with pytest.raises(
        SelfRepairError, match=r"L9H6 is a head of layer 9, and layer=8 was given. Leave out the layer."
    ):
        bind("tail_of_head", {"head": "L9H6", "layer": 8})
    with pytest.raises(SelfRepairError, match=r"'head' of question 'tail_of_head' takes a whole number, not '9.6'"):
        bind("tail_of_head", {"head": "9.6", "layer": 8})


def test_errors_end_in_the_callers_language() -> None:
    with errors_in("python"), pytest.raises(SelfRepairError) as raised:
        bind("tail_of_head", {})
    assert str(raised.value) == (
        "question 'tail_of_head' needs layer and head: warehouse.question(\"tail_of_head\", head='L9H6'). "
        'See: warehouse.describe("tail_of_head")'
    )


def test_a_model_stands_for_its_only_run(reader: Reader) -> None:
    runs = reader.frame(RUNS).to_dicts()
    assert with_run({"model": "one", "run_id": None}, runs) == {"model": "one", "run_id": 1}
    assert with_run({"model": None, "run_id": None}, runs) == {"model": None, "run_id": None}
    for values, message in (
        ({"model": "two", "run_id": None}, "two has 2 runs here"),
        ({"model": "three", "run_id": None}, "model 'three' is not in this warehouse"),
        ({"model": "one", "run_id": 2}, "run 2 is of two, not of one"),
        ({"model": None, "run_id": 9}, "there is no run 9"),
        ({"model": None, "run_id": "x"}, "no run of this warehouse is called 'x'"),
        ({"run_id": 1, "other_run_id": 9}, "there is no run 9"),
    ):
        with pytest.raises(SelfRepairError, match=message):
            with_run(values, runs)


def test_a_warehouse_without_runs_has_no_answer(tmp_path: Path) -> None:
    with Reader(installed(tmp_path)) as reader:
        assert answer(reader, "run_checks").is_empty()


def test_parameters_in_text_and_comments_are_no_parameters() -> None:
    asked = parse_question("mine", TEXT)
    (view,) = questions.as_views([replace(asked, view=replace(asked.view, sql="SELECT $layer AS layer"))])
    assert view.sql == "SELECT CAST(NULL AS INTEGER) AS layer"


def test_of_an_answer_the_prompt_up_to_it_is_the_context(reader: Reader, db: Path, tmp_path: Path) -> None:
    first, *_ = answer(reader, "strongest_rows", run_id=1, ablation="mean").to_dicts()
    path = Path(shutil.copy(db, tmp_path))
    with duckdb.connect(path) as con:
        con.execute("UPDATE runs SET logit_of = 'answer' WHERE run_id = 1")
        con.execute(
            "UPDATE prompts SET text = 'a whole prompt' || $target WHERE run_id = 1 AND prompt_id = $prompt_id",
            {"target": first["target"], "prompt_id": first["prompt_id"]},
        )
    with Reader(path) as changed:
        again, *_ = answer(changed, "strongest_rows", run_id=1, ablation="mean").to_dicts()
    assert again == first | {"context": "a whole prompt"}
