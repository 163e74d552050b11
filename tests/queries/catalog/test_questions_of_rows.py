"""Answers about rows, prompts and tokens, against the measured rows."""

import math

import polars as pl
import pytest

from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.schema import PARTS
from support.answers import HEAD, N_POSITIONS, N_ROWS, Frame, answer, top


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
