"""Whatever decides which tokens are measured, and which stand in for them, is in the key that names the run."""

import functools
import json
import shutil
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.ingest.mechanisms.top_rows import n_top
from selfrepair.ingest.models.demo import DEMO_FOLDER
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.runs import plan, requested
from selfrepair.ingest.runs.earlier import as_begun
from selfrepair.ingest.runs.plan import plan_run
from selfrepair.ingest.runs.runner import TOP_ROWS_FILE, _top_rows, _top_searched
from selfrepair.ingest.text.prompts import Prompt, PromptSet
from selfrepair.ingest.text.sources import Source
from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.schema import ANSWER, ANSWER_MINUS_FOIL
from support.loaded import load_rows as load
from support.prompts import jsonl, request

WORDS = ("return", "first", "second", "names", "values", "tuple", "list", "holds", "stay", "print", "for", "in", "add")


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory):
    """The plan of a request for prompts of one file, with one model loaded for all."""
    rows = [
        {
            "text": " ".join(WORDS[(n * k) % 13] for k in range(200)),
            "body": " ".join(WORDS[(n + k) % 13] for k in range(200)),
        }
        for n in range(60)
    ]
    path = jsonl(tmp_path_factory.mktemp("texts") / "texts.jsonl", *rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requested, "load_model", functools.cache(load_model))
        usual = {"dataset": str(path), "seq_len": 128, "ablation": "resample"}
        yield lambda n_workers=1, **options: requested.make_plan(request(**usual | options), n_workers=n_workers)


def test_every_choice_of_prompts_is_another_run(plan_of):
    choices: list[dict[str, Any]] = [
        {},
        {"packing": "document"},
        {"protocol": "rushing2024"},
        {"text_column": "body"},
        {"seq_len": 64},
        {"n_prompts": 32},
        {"seed": 1},
        {"ablation": "mean"},
        {"dataset": "random"},
        {"dataset": "random", "seed": 1},
        {"dataset": "stdlib"},
        {"dataset": "stdlib", "packing": "document"},
    ]
    records = [plan_of(**choice).record for choice in choices]
    assert len({record.run_key for record in records}) == len(choices)
    assert [record.dataset.packing for record in records[:3]] == ["packed", "document", "rushing2024"]
    assert plan_of(packing="packed", text_column="text").record.run_key == records[0].run_key


def test_the_protocol_plans_what_it_fixes(plan_of):
    plan = plan_of(protocol="rushing2024", seq_len=None, ablation=None)
    assert plan.settings.ablations == ("resample",)
    assert plan.prompts.seq_len == 128
    assert plan.prompts.partners == [(prompt + 30) % 31 for prompt in range(31)]


def test_the_same_prompts_of_another_dataset_are_another_run(plan_of):
    plan = plan_of(seed=0)
    sources = [
        Source("owner/texts", "train", None, iter(())),
        Source("owner/texts", "train", "v2", iter(())),
        Source("owner/texts", "test", None, iter(())),
        Source("owner/others", "train", None, iter(())),
    ]
    keys = [plan_run(plan.model, source, plan.prompts, plan.settings).record.run_key for source in sources]
    assert len(set(keys)) == len(sources)


def test_the_same_prompts_with_other_partners_are_another_run_on_the_same_dataset(plan_of):
    plan = plan_of()
    assert plan.prompts.partners is not None
    turned = plan.prompts.partners[1:] + plan.prompts.partners[:1]
    source = Source("texts", None, None, iter(()))
    sets = [replace(plan.prompts, partners=partners) for partners in (plan.prompts.partners, turned, None)]
    records = [plan_run(plan.model, source, prompts, plan.settings).record for prompts in sets]
    assert len({record.run_key for record in records}) == 3
    assert len({record.dataset for record in records}) == 1


def test_answers_and_foils_are_of_the_dataset():
    rows = [Prompt((5, 9, 7), 0, foil=3), Prompt((8, 4, 4), 1, foil=2)]
    foils = PromptSet(rows, "none", None, logit_of=ANSWER_MINUS_FOIL)
    others = PromptSet([rows[0], replace(rows[1], foil=6)], "none", None, logit_of=ANSWER_MINUS_FOIL)
    plain = [replace(row, foil=None) for row in rows]
    sets = [foils, others, PromptSet(plain, "none", None, logit_of=ANSWER), PromptSet(plain, "none", None)]
    assert len({prompts.fingerprint() for prompts in sets}) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"layer_norm_epsilon": 1e-3},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "relu"},
    ],
    ids=str,
)
def test_another_configuration_of_the_same_weights_is_another_run(tmp_path, monkeypatch, change):
    """The weights are the same file; what the model computes with them is not."""
    monkeypatch.setattr(requested, "load_model", load_model)  # anew each time
    folder = shutil.copytree(DEMO_FOLDER, tmp_path / "model")
    rows = jsonl(tmp_path / "tokens.jsonl", {"tokens": [5, 9, 7]}, {"tokens": [8, 4, 4]})
    asked = request(model=str(folder), dataset=str(rows), n_prompts=2, ablation="zero")
    before = requested.make_plan(asked)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"use_cache": False, "transformers_version": "9"}))
    assert requested.make_plan(asked).record.run_key == before.record.run_key
    (folder / "config.json").write_text(json.dumps(config | change))
    after = requested.make_plan(asked)
    assert after.record.model.weights_sha256 == before.record.model.weights_sha256
    assert after.record.model.config_sha256 != before.record.model.config_sha256
    assert after.record.run_key != before.record.run_key


def test_a_run_that_version_0_1_began_goes_on_as_begun(plan_of, tmp_path):
    plan, db, notes = plan_of(), tmp_path / "w.duckdb", []
    earlier = replace(plan.record, run_key=plan.key_of_0_1, model=replace(plan.record.model, config_sha256=None))
    assert as_begun(plan, tmp_path, db, notes.append).record == plan.record
    PartsFolder(tmp_path, earlier.run_key).start(earlier)
    assert as_begun(plan, tmp_path, db, notes.append).record == earlier
    assert len(notes) == 1
    assert "did not record the model's configuration" in notes[0]
    populations = [
        as_begun(one, tmp_path, db, notes.append).settings.neuron_populations for one in (plan, plan_of(seed=1))
    ]
    assert populations == [("top2",), ("top2", "top2_nobos")]
    notes.clear()
    load(db, tmp_path)  # from now on it is in the file, too
    shutil.rmtree(tmp_path / earlier.run_key)
    assert as_begun(plan, tmp_path, db, notes.append).record == earlier
    PartsFolder(tmp_path, plan.record.run_key).start(plan.record)
    assert as_begun(plan, tmp_path, db, notes.append).record == plan.record


@pytest.mark.parametrize("populations", [1, 2])
def test_a_run_goes_on_in_the_populations_in_which_it_began(plan_of, tmp_path, populations):
    """An earlier version kept the top 2 % of all rows alone."""
    plan = plan_of(neurons="last")
    counts = [n_top(n) for n in _top_searched(plan)]
    assert len(counts) == 2
    parts = PartsFolder(tmp_path, plan.record.run_key)
    parts.write_array(TOP_ROWS_FILE, np.zeros((len(plan.settings.heads), sum(counts[:populations])), dtype=np.int64))
    found = _top_rows(plan, None, parts, None)
    assert [codes.shape[1] for codes in found.codes] == counts[:populations]


def test_units_are_planned_in_time_that_grows_with_the_prompts():
    """20,000 prompts took seconds, since every unit looked through all of them."""
    many = PromptSet([Prompt((5, 9, 7), number) for number in range(20_000)], "none", None)
    began = time.perf_counter()
    units = plan.cut(many, plan.ROWS_IN_UNIT, plan.ROWS_IN_UNIT)  # a unit for each
    planned = plan.RunPlan(None, many, None, units, None)
    assert [planned.unit_of(prompt).first for prompt in range(20_000)] == list(range(20_000))
    assert time.perf_counter() - began < 2


def test_units_hold_every_prompt_once_and_are_of_one_length():
    lengths = [2, 2, 2, 2, 2, 3, 3, 5]
    prompts = PromptSet([Prompt((7,) * length, 0) for length in lengths], "none", None)
    units = plan.cut(prompts, plan.ROWS_IN_UNIT // 2, plan.ROWS_IN_UNIT)
    assert [(unit.first, unit.count) for unit in units] == [(0, 2), (2, 2), (4, 1), (5, 1), (6, 1), (7, 1)]


@pytest.mark.parametrize(
    ("lengths", "at_least", "counts"),
    [
        ([3] * 200, 1, [200]),
        ([3] * 200, 8, [24] * 8 + [8]),  # whole batches
        ([3] * 100, 12, [8] * 12 + [4]),
        ([3] * 20, 8, [2] * 10),
        ([3] * 5, 32, [1] * 5),
        ([3] * 4 + [5] * 2 + [9], 5, [3, 1, 1, 1, 1]),
    ],
)
def test_a_run_of_several_workers_is_cut_into_units_for_all_of_them(lengths, at_least, counts):
    prompts = PromptSet([Prompt((7,) * length, 0) for length in lengths], "none", None)
    units = plan.cut(prompts, 36, plan.rows_for(prompts, 36, at_least))
    assert [unit.count for unit in units] == counts


def pieces(documents: list[int], most: int) -> list[tuple[int, int | None]]:
    prompts = PromptSet([Prompt((7, 7), document) for document in documents], "none", None)
    return [(unit.count, unit.document) for unit in plan.cut(prompts, 1, most)]


def test_a_unit_holds_whole_documents_or_a_part_of_one():
    assert pieces([0, 0, 1, 1, 1, 2], 5) == [(5, None), (1, None)]
    assert pieces([0, 0, 1, 1, 1, 2], 4) == [(2, None), (4, None)]
    assert pieces([0, 1, 1, 1, 1, 1, 2, 2, 3], 3) == [(1, None), (3, 1), (2, 1), (3, None)]
    assert pieces([0, 0, 1], 1) == [(1, 0), (1, 0), (1, None)]
    assert pieces([0, 1, 0, 1], 2) == [(2, None), (2, None)]  # interleaved


@given(st.lists(st.tuples(st.integers(2, 4), st.integers(1, 9)), min_size=1, max_size=8), st.integers(1, 60))
def test_units_cover_the_prompts_in_order_whatever_the_documents(documents, rows):
    prompts = [Prompt((7,) * length, number) for number, (length, n) in enumerate(sorted(documents)) for _ in range(n)]
    units = plan.cut(PromptSet(prompts, "none", None), 2, rows)
    assert [unit.number for unit in units] == list(range(len(units)))
    assert [index for unit in units for index in unit.prompt_ids] == list(range(len(prompts)))
    for unit in units:
        mine = [prompts[index] for index in unit.prompt_ids]
        assert len({len(prompt.tokens) for prompt in mine}) == 1
        assert unit.count == 1 or unit.count * 2 * (len(mine[0].tokens) - 1) <= rows
        whole = all(index in unit.prompt_ids for index, prompt in enumerate(prompts) if prompt in mine)
        assert whole is (unit.document is None)
        assert unit.document in {None, *(prompt.document for prompt in mine)}


def test_a_run_that_was_begun_keeps_its_units_whatever_the_number_of_workers(plan_of, tmp_path):
    db = tmp_path / "w.duckdb"
    one, five, two = (plan_of(n_workers=n, n_prompts=100) for n in (1, 5, 2))
    assert [len(each.units) for each in (one, five, two)] == [2, 24, 13]
    assert len({each.record.run_key for each in (one, five, two)}) == 1
    for begun in (one, five):
        parts = PartsFolder(tmp_path, begun.record.run_key)
        parts.start(begun.record)
        assert {as_begun(each, tmp_path, db, pytest.fail).units for each in (one, five, two)} == {begun.units}
        assert as_begun(two, tmp_path, db, pytest.fail).record.n_units == len(begun.units)
        shutil.rmtree(parts.path)
    PartsFolder(tmp_path, five.record.run_key).start(five.record)
    load(db, tmp_path)
    shutil.rmtree(tmp_path / five.record.run_key)
    assert as_begun(one, tmp_path, db, pytest.fail).units == five.units


def test_a_run_that_was_cut_across_documents_goes_on_as_it_was_cut(plan_of, tmp_path):
    begun = plan_of(n_prompts=100).cut_as(None)
    PartsFolder(tmp_path, begun.record.run_key).start(begun.record)
    three = plan_of(n_workers=3, n_prompts=100)
    assert [(unit.count, unit.document) for unit in begun.units] == [(98, None), (2, None)]
    assert as_begun(three, tmp_path, tmp_path / "w.duckdb", pytest.fail).units == begun.units != three.units


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (
            {"ablation": "mean", "given": "L0H1,L3H2", "mechanisms": True, "neurons": "all", "layers": "3-4"},
            "0554ad187c79c586",
        ),
        ({"edges": False, "neurons": "none", "logit_lens": False}, "eaff1889d508b4da"),
    ],
)
def test_a_run_has_the_key_that_version_0_1_gave_it(tmp_path, options, key):
    """Keys as version 0.1 computed them for the bundled model, whose names of mechanisms they hash."""
    rows = jsonl(tmp_path / "tokens.jsonl", *({"tokens": row} for row in ([5, 9, 7, 8], [8, 4, 4, 11], [2, 12, 6, 30])))
    plan = requested.make_plan(request(dataset=str(rows), n_prompts=3, seed=5, **options))
    assert plan.key_of_0_1 == key
