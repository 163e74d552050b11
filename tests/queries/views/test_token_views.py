"""The views by the kind of token, against polars; what kind a token is, by hand."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from support.empty import with_views
from support.random_runs import FAILED, STEPS, random_runs, summed, with_repair

Fill = Callable[..., None]
OneRow = Callable[..., Mapping[str, Any]]
Con = duckdb.DuckDBPyConnection

HEAD = ["run_id", "ablation", "layer", "head"]
GRAIN = ["run_id", "ablation", "population", "level", "layer", "head", "dimension", "bucket_order"]
CLASSES = ("word start", "inner piece", "digit", "punctuation", "newline", "other")
TARGETS = {
    " the": "word start",
    "  return": "word start",
    "\tif": "word start",
    "\u00a0mot": "word start",
    " été": "word start",
    "ing": "inner piece",
    "The": "inner piece",
    "語": "inner piece",
    "é": "inner piece",
    "\u0301": "inner piece",
    "x1": "inner piece",
    "7": "digit",
    " 2026": "digit",
    "3rd": "digit",
    "½": "digit",
    ".": "punctuation",
    " (": "punctuation",
    "'t": "punctuation",
    " =": "punctuation",
    "$": "punctuation",
    "<": "punctuation",
    "</": "punctuation",
    "<=": "punctuation",
    "\n": "newline",
    "\r\n": "newline",
    ".\n": "newline",
    "\n    ": "newline",
    "<s>\n": "newline",
    "    ": "other",
    "": "other",
    "\ufffd": "other",
    " \ufffd": "other",
    "<|endoftext|>": "other",
    "<17>": "other",
    "</s>": "other",
    "\x00": "other",
}
"""Texts of tokens and their classes."""

POSITIONS = ("0", "1-3", "4-15", "16-63", "64-255", "256-1023", "1024+")
MEANS = (
    "direct_effect",
    "logit_change",
    "self_repair",
    "repair_layernorm",
    "repair_attention",
    "repair_mlp",
    "repair_post_norm",
)


def position_bucket(pos: int) -> str:
    return next(name for name, end in zip(POSITIONS, (1, 4, 16, 64, 256, 1024, 10**9), strict=True) if pos < end)


def fill_tokens(con: Con, tokens: pl.DataFrame) -> None:
    """Give the positions that are there another log-probability and target."""
    con.register("given", tokens)
    con.execute(
        "UPDATE tokens SET clean_logprob = given.clean_logprob, target = given.target FROM given "
        "WHERE (tokens.run_id, tokens.prompt_id, tokens.pos) = (given.run_id, given.prompt_id, given.pos)"
    )
    con.unregister("given")


def add_token(con: Con, run_id: int, prompt_id: int, pos: int, logprob: float, target: str) -> None:
    values = [run_id, prompt_id, pos, 0, "t", 1, target, 1.0, logprob, 1, 1.0, 1.0, None, None]
    con.execute(f"INSERT INTO tokens VALUES ({', '.join('?' * len(values))})", values)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return random_runs(seed=12)


@pytest.fixture(scope="module")
def tokens(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A log-probability, many of them equal, and a target for each position of the rows."""
    rng = np.random.default_rng(5)
    places = pl.DataFrame(rows).select("run_id", "prompt_id", "pos").unique().sort("run_id", "prompt_id", "pos")
    return places.with_columns(
        pl.Series("clean_logprob", -rng.integers(0, 40, places.height) / 4.0),
        pl.Series("target", rng.choice(np.array(list(TARGETS), dtype=object), places.height), dtype=pl.String),
    )


@pytest.fixture(scope="module")
def filled(rows: list[dict[str, Any]], tokens: pl.DataFrame, fill: Fill) -> Iterator[Con]:
    with with_views() as con:
        fill(con, rows, status={FAILED: "failed"})
        fill_tokens(con, tokens)
        yield con


def tenths(n: int) -> list[int]:
    """The tenth that each of n things in order is in; the first tenths are the larger ones."""
    size, longer = divmod(n, 10)
    return [tenth for tenth in range(1, 11) for _ in range(size + (tenth <= longer))]


def reference(rows: list[dict[str, Any]], tokens: pl.DataFrame) -> pl.DataFrame:
    ordered = tokens.sort("run_id", "clean_logprob", "prompt_id", "pos")
    deciles = [tenth for _, run in ordered.group_by("run_id", maintain_order=True) for tenth in tenths(run.height)]
    kinds = {
        "logprob_decile": (deciles, [str(tenth) for tenth in range(1, 11)]),
        "position": ([POSITIONS.index(position_bucket(pos)) + 1 for pos in ordered["pos"]], POSITIONS),
        "token_class": ([CLASSES.index(TARGETS[target]) + 1 for target in ordered["target"]], CLASSES),
    }
    ranked = with_repair(rows).sort(*HEAD, -pl.col("direct_effect"), "prompt_id", "pos")
    rank, n_top = pl.int_range(1, pl.len() + 1).over(HEAD), pl.max_horizontal(1, pl.len().over(HEAD) * 2 // 100)
    populations = {"all": ranked, "top2": ranked.filter(rank <= n_top)}
    frames = []
    for dimension, (numbers, names) in kinds.items():
        labels = pl.DataFrame({"bucket_order": numbers, "bucket": [names[number - 1] for number in numbers]})
        labelled = pl.concat([ordered.select("run_id", "prompt_id", "pos"), labels], how="horizontal")
        for population, members in populations.items():
            joined = members.join(labelled, on=["run_id", "prompt_id", "pos"])
            for level, heads in {"head": ["layer", "head"], "model": []}.items():
                found = joined.group_by("run_id", "ablation", *heads, "bucket_order", "bucket").agg(
                    pl.len().alias("n_rows"),
                    *(summed(name).alias(f"mean_{name}") for name in MEANS),
                )
                words = {"population": population, "level": level, "dimension": dimension}
                frames.append(found.with_columns(pl.lit(text).alias(name) for name, text in words.items()))
    effect = pl.col("mean_direct_effect")
    fraction = pl.when(effect != 0).then(pl.col("mean_self_repair") / effect)
    return (
        pl.concat(frames, how="diagonal")
        .with_columns(fraction.alias("total_fraction_of_effect"))
        .with_columns(
            *(pl.col(f"mean_{name}") / pl.col("n_rows") / STEPS for name in MEANS),
            pl.format("model-{}", "run_id").alias("model"),
            pl.format("L{}H{}", "layer", "head").alias("label"),
        )
        .sort(GRAIN, nulls_last=True)
    )


def test_means_by_kind_of_token(filled: Con, rows: list[dict[str, Any]], tokens: pl.DataFrame) -> None:
    found = filled.sql("FROM repair_by_token").pl().with_columns(pl.col("ablation").cast(pl.String))
    expected = reference(rows, tokens).select(found.columns)
    assert_frame_equal(found.sort(GRAIN, nulls_last=True), expected, check_dtypes=False, rel_tol=1e-11, abs_tol=1e-13)
    assert set(found["run_id"]) == {1, 2, 3, 4}
    for dimension, n_buckets in {"logprob_decile": 10, "position": 4, "token_class": 6}.items():
        assert found.filter(pl.col("dimension") == dimension)["bucket"].n_unique() == n_buckets
    assert found["total_fraction_of_effect"].null_count() > 0


@pytest.mark.parametrize("population", ["all", "top2"])
@pytest.mark.parametrize("dimension", ["logprob_decile", "position", "token_class"])
def test_every_row_is_in_one_bucket(filled: Con, population: str, dimension: str) -> None:
    in_buckets = filled.execute(
        "SELECT run_id, ablation, layer, head, sum(n_rows) FROM token_sums WHERE population = ? AND dimension = ? "
        "GROUP BY ALL ORDER BY ALL",
        [population, dimension],
    ).fetchall()
    of_heads = filled.execute(
        "SELECT run_id, ablation, layer, head, count(*) FROM population_rows WHERE population = ? GROUP BY ALL ORDER BY ALL",
        [population],
    ).fetchall()
    assert in_buckets == of_heads


def test_the_class_of_a_token(con: Con) -> None:
    for pos, target in enumerate(TARGETS):
        add_token(con, 1, 0, pos, -1.0, target)
    found = con.execute(
        "SELECT target, class_order FROM token_classes INNER JOIN tokens USING (run_id, pos)"
    ).fetchall()
    assert {target: CLASSES[number - 1] for target, number in found} == TARGETS


def test_buckets_of_positions_end_where_they_say(con: Con) -> None:
    edges = (0, 1, 3, 4, 15, 16, 63, 64, 255, 256, 1023, 1024, 32767)
    for pos in edges:
        add_token(con, 1, 0, pos, -1.0, "a")
    numbers = con.execute("SELECT position_order FROM token_classes ORDER BY pos").fetchall()
    assert [POSITIONS[number - 1] for (number,) in numbers] == [
        "0", "1-3", "1-3", "4-15", "4-15", "16-63", "16-63", "64-255", "64-255", "256-1023", "256-1023", "1024+", "1024+",
    ]  # fmt: skip


def test_tenths_of_a_run_by_hand(con: Con) -> None:
    for pos, logprob in enumerate([-1.0, -9.0, -5.0, -5.0, -2.0, -3.0, -4.0, -6.0, -7.0, -8.0, -9.0, -0.5]):
        add_token(con, 1, 0, pos, logprob, "a")
    add_token(con, 2, 0, 0, -0.1, "a")
    found = con.execute("SELECT run_id, logprob_decile FROM token_classes ORDER BY run_id, pos").fetchall()
    # Twelve positions: two in each of the first two tenths, one in each other; -9 and -5 are there twice.
    assert [tenth for run_id, tenth in found if run_id == 1] == [9, 1, 4, 5, 8, 7, 6, 3, 2, 2, 1, 10]
    assert [tenth for run_id, tenth in found if run_id == 2] == [1]


def test_a_bucket_by_hand(con: Con, fill: Fill, one_row: OneRow) -> None:
    fill(con, [one_row(), one_row(pos=2, direct_effect=-1.0, logit_change=1.0, repair_mlp=0.5)])
    by_class = con.execute(
        "SELECT bucket, n_rows, mean_direct_effect, mean_logit_change, mean_self_repair, mean_repair_mlp, "
        "total_fraction_of_effect FROM repair_by_token "
        "WHERE dimension = 'token_class' AND population = 'all' AND level = 'head'"
    ).fetchall()
    assert by_class == [("inner piece", 2, 2.0, -1.0, 0.0, 0.4375, 0.0)]  # self-repair: 1 and 1 - (1 + 1) = -1


def test_no_rows_no_answer(con: Con) -> None:
    for view in ("token_classes", "token_sums", "repair_by_token"):
        assert con.execute(f"FROM {view}").fetchall() == []
