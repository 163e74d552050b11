"""Answers about mechanisms, against the measured rows."""

import polars as pl
import pytest

from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError
from support.answers import HEAD, N_ROWS, Frame, answer


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
