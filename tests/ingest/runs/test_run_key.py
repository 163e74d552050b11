"""Whatever decides which tokens are measured, and which stand in for them, is in the key that names the run."""

import functools
from typing import Any

import pytest

from selfrepair.ingest.cli import session
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.runs.plan import plan_run
from selfrepair.ingest.text.prompts import PromptSet
from selfrepair.ingest.text.sources import Source
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
        patch.setattr(session, "load_model", functools.cache(load_model))
        usual = {"dataset": str(path), "seq_len": 128, "ablation": "resample"}
        yield lambda **options: session.make_plan(request(**usual | options))


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


def test_the_same_prompts_with_other_partners_are_another_run(plan_of):
    plan = plan_of()
    assert plan.prompts.partners is not None
    turned = plan.prompts.partners[1:] + plan.prompts.partners[:1]
    other = PromptSet(plan.prompts.prompts, plan.prompts.packing, turned)
    assert other.fingerprint() != plan.prompts.fingerprint()


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
    plan = session.make_plan(request(dataset=str(rows), n_prompts=3, seed=5, **options))
    assert plan.record.run_key == key
