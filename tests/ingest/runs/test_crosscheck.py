"""Which cells the cross-check measures again, what it reads of the rows that were stored, and what it makes of a wrong one."""

import re
from dataclasses import replace

import duckdb
import numpy as np
import pytest
import torch
from click import ClickException

from selfrepair import SelfRepairError, measure
from selfrepair.app.cli.main import main
from selfrepair.ingest.checks.reference import PlainForwards
from selfrepair.ingest.conventions import EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.in_memory import share_model
from selfrepair.ingest.models.weights import cast_parameters
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs import runner
from selfrepair.ingest.runs.crosscheck import choose_crosschecks, stored_rows
from selfrepair.ingest.runs.plan import RunPlan, Unit, plan_run
from selfrepair.ingest.text.given_prompts import given_prompts
from selfrepair.ingest.text.prompts import PromptOptions, build_prompts
from selfrepair.ingest.text.sources import Source
from support import families
from support.fabricate import fabricate

IDS = [[0, 5, 9, 7], [0, 8, 3, 4], [0, 6, 2, 11]]


def plan(n_prompts: int, n_crosschecks: int | None = None) -> RunPlan:
    """A run of 36 cells a prompt."""
    model = share_model(families.build("gpt2", torch.float32))
    rows = given_prompts([[0, 5, 7 + n, 9] for n in range(n_prompts)], None)
    source = Source("prompts", None, None, iter(rows))
    prompts = build_prompts(source, model.vocabulary, PromptOptions(n_prompts=n_prompts, seq_len=0, resample=True))
    heads = [(layer, head) for layer in range(3) for head in range(4)]
    settings = RunSettings(["resample", "mean", "zero"], heads)
    return plan_run(model, source, prompts, settings, n_crosschecks=n_crosschecks)


def test_how_many_cells_grow_with_the_run_and_change_no_key():
    plans = {n: plan(n) for n in (2, 20, 50)}
    assert {n: one.record.n_crosschecks for n, one in plans.items()} == {2: 16, 20: 720 // 32, 50: 1800 // 32}
    assert plan(2, 1000).record.n_crosschecks == 72
    assert plan(2, 3).record.run_key == plans[2].record.run_key
    assert plan(2, 3).record.stamp() == plans[2].record.stamp()


def test_more_cells_include_the_fewer():
    whole = plan(4, 144)
    records = {n: replace(whole.record, n_crosschecks=n) for n in (3, 64, 90, 144)}
    cells = {n: set(choose_crosschecks(replace(whole, record=record))) for n, record in records.items()}
    assert [len(chosen) for chosen in cells.values()] == [3, 64, 90, 144]
    assert cells[3] < cells[64] < cells[90] < cells[144]


def test_none_is_refused(tmp_path):
    command = f"ingest --model demo --crosscheck 0 --db {tmp_path / 'w.duckdb'}"
    with pytest.raises(ClickException, match=r"--crosscheck 0 would leave the run unchecked.*Give 1 or more"):
        main(command.split(), standalone_mode=False)


def test_a_wrong_row_is_noticed_and_named(monkeypatch):
    own = runner.stored_rows

    def spoilt(*of):
        rows = own(*of)
        prompt, ablated = of[-2:]
        if (prompt, ablated) == (1, HeadAblation(2, 1, "mean")):
            rows[2, EFFECTS.index("repair_mlp")] += 0.02
        return rows

    monkeypatch.setattr(runner, "stored_rows", spoilt)
    named = "mean ablation of L2H1 on prompt 1 differs by 0.02 logits from the same measurement by plain forwards with hooks"
    with pytest.raises(SelfRepairError, match=re.escape(named)):
        measure(families.build("gpt2", torch.float32), IDS, heads="L2H1", ablations="mean")


def test_a_cast_leaves_a_model_that_shares_the_parameters_as_it_is_and_ties_tied():
    own = families.build("llama-3", torch.bfloat16)  # whose embeddings are tied
    shared = share_model(own).adapter.model
    cast_parameters(shared, torch.float32)
    assert {parameter.dtype for parameter in own.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in shared.parameters()} == {torch.float32}
    assert shared.lm_head.weight is shared.model.embed_tokens.weight
    assert torch.equal(shared.lm_head.weight, own.lm_head.weight.float())


@pytest.mark.slow
def test_a_model_in_half_precision_is_checked_in_float32_and_stays_as_it_was(monkeypatch):
    seen = []
    begin = PlainForwards.__init__
    monkeypatch.setattr(
        PlainForwards, "__init__", lambda self, adapter: seen.append(adapter.layer_dtype) or begin(self, adapter)
    )
    model = families.build("llama-3", torch.bfloat16)
    found = measure(model, IDS, ablations="zero")
    assert seen[-1] is torch.float32
    assert found.crosscheck_rows == 16 * 3
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.slow
def test_few_rows_fit_into_memory(monkeypatch):
    """They are then measured in smaller batches, one at least."""
    sizes = []
    whole = PlainForwards.measure

    def measure_rows(self, clean, ablated):
        sizes.append(len(ablated))
        if len(ablated) > 3:
            raise torch.OutOfMemoryError("too many")
        return whole(self, clean, ablated)

    monkeypatch.setattr(PlainForwards, "measure", measure_rows)
    model = families.build("gpt2", torch.float32)
    assert measure(model, IDS, ablations="zero").crosscheck_rows == 16 * 3
    assert max(sizes) > 3
    monkeypatch.setattr(PlainForwards, "measure", lambda *every: measure_rows(*every[:2], [0] * 4))
    with pytest.raises(SelfRepairError, match=r"could not run \(too many\).*Memory ran out"):
        measure(model, IDS, ablations="zero")


@pytest.mark.parametrize("folder", ["layer=5", "ablation=mean", "head=0", "what*[is]?this"])
def test_a_folders_name_is_no_data(tmp_path, folder):
    run = fabricate(n_units=1, post_norms=folder != "layer=5")
    parts = run.write(tmp_path / folder)
    (tmp_path / "whatiis!this").mkdir()
    rows = run.units[0].measurements
    mine = (rows["prompt_id"] == 1) & (rows["layer"] == 2) & (rows["head"] == 3) & (rows["ablation"] == 2)
    with duckdb.connect() as con:
        found = stored_rows(
            con, parts, tmp_path / "w.duckdb", lambda prompt: Unit(0, 0, 3), 1, HeadAblation(2, 3, "zero")
        )
    given = np.stack([rows[name][mine] for name in EFFECTS], axis=-1).astype(float)
    np.testing.assert_allclose(found, np.nan_to_num(given), rtol=0, atol=1e-4)
