"""Questions: their files, the values they take, and answers worked out again from the measured rows."""

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest, t

from selfrepair.queries.catalog.questions import bind, with_run
from selfrepair.queries.catalog.which_run import RUNS
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from support.answers import FAILED, HEAD, N_ROWS, Frame, answer, top
from support.empty import with_views

# The files


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


# What a question takes


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
