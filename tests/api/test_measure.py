"""Measuring a model in memory: the numbers, the prompts it takes, and what it writes."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from transformers import AutoModelForCausalLM

from selfrepair import Measurements, SelfRepairError, SpecialTokensInText, Warehouse, demo_model, measure
from selfrepair.app.cli.main import main
from selfrepair.ingest.conventions import ABLATIONS, EFFECTS, PRECISIONS
from selfrepair.ingest.models.demo import DEMO_FOLDER
from selfrepair.ingest.models.in_memory import share_model
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.runs import plan, runner
from selfrepair.ingest.text.prompts import PromptOptions, build_prompts
from selfrepair.ingest.text.sources import open_source
from selfrepair.warehouse.schema import MECHANISM_TABLES
from support import families, naive, sweep, tiny

IDS = torch.randint(2, families.VOCABULARY, (5, 9), generator=torch.Generator().manual_seed(3)).tolist()
NEAREST = 6e-5
"""Effects are stored in steps of 1e-4 logits."""


def edited(family: str, dtype: torch.dtype = torch.float64):
    """A model that was changed in memory: a head's output turned around, an MLP made louder."""
    model = families.build(family, dtype)
    with torch.no_grad():
        naive.head_weight(model, 1, 2).neg_()
        naive.neuron_weight(model, 0).mul_(1.5)
    return model


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "family", ["gpt2", pytest.param("pythia", marks=SLOW), pytest.param("llama-grouped", marks=SLOW)]
)
def test_every_effect_of_an_edited_model_equals_the_naive_reference(family: str) -> None:
    model = edited(family)
    found = measure(model, torch.tensor(IDS))
    partners = found.prompts["partner_id"].to_list()
    n_layers, n_heads = len(naive.parts_of(model).blocks), model.config.num_attention_heads
    assert found.measurements.height == n_layers * n_heads * 3 * 5 * 8
    assert found.measurements["repair_post_norm"].is_null().all()
    for layer, head, ablation in itertools.product(range(n_layers), range(n_heads), ABLATIONS):
        with torch.no_grad():
            reference = naive.measure(model, IDS, partners, layer, head, ablation)
        rows = found.measurements.filter(layer=layer, head=head, ablation=ablation).sort("prompt_id", "pos")
        for name in EFFECTS:
            np.testing.assert_allclose(
                rows[name].fill_null(0), reference[name].flatten(), rtol=1e-5, atol=NEAREST, err_msg=name
            )


@pytest.mark.slow
def test_the_edit_is_measured_and_not_what_was_there_before() -> None:
    before, after = (measure(model, IDS, ablations="zero") for model in (families.build("gpt2"), edited("gpt2")))
    assert before.weights_sha256 != after.weights_sha256
    of_head = pl.col("layer") == 1, pl.col("head") == 2
    effects = [frame.measurements.filter(*of_head)["direct_effect"].abs().max() for frame in (before, after)]
    assert abs(effects[0] - effects[1]) > 0.01


def test_a_replaced_module_is_measured_and_has_a_key_of_its_own() -> None:
    usual, model = families.build("gpt2"), families.build("gpt2")
    model.transformer.h[1].ln_2 = torch.nn.Identity()
    keys = [share_model(one).record.config_sha256 for one in (usual, model)]
    assert keys[0] != keys[1]
    same = families.build("gpt2")
    same.transformer.h[1].ln_2 = torch.nn.Identity()
    assert share_model(same).record.config_sha256 == keys[1]


@pytest.fixture(scope="module")
def demo_rows(tmp_path_factory) -> tuple[list[list[int]], Path]:
    """Prompts, and a warehouse into which `selfrepair ingest` measured the bundled model on them."""
    folder = tmp_path_factory.mktemp("demo")
    ids = [[0, *range(start, start + 11)] for start in (100, 300, 500, 700)]
    (folder / "ids.jsonl").write_text("\n".join(json.dumps({"tokens": row}) for row in ids))
    command = (
        f"ingest --model demo --dataset {folder / 'ids.jsonl'} --prompts 4 --device cpu --db {folder / 'demo.duckdb'}"
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(plan, "N_CROSSCHECKS", 6)
        main(f"{command} --neurons none --no-edges".split(), standalone_mode=False)
    return ids, folder / "demo.duckdb"


@pytest.mark.slow
def test_an_unedited_model_has_the_rows_of_ingest(demo_rows) -> None:
    ids, db = demo_rows
    model, tokenizer = demo_model()
    found = measure(model, ids, tokenizer=tokenizer, model_name="demo", mechanisms="logit_lens")
    frames = {"measurements": found.measurements, "tokens": found.tokens, "prompts": found.prompts, **found.mechanisms}
    assert set(frames) == {"measurements", "tokens", "prompts", "logit_lens"}
    warehouse = Warehouse(db)
    for name, frame in frames.items():
        assert_frame_equal(frame, warehouse.view(name).drop("run_id"), check_row_order=False)
    joined = warehouse.view("self_repair").drop("run_id")
    assert_frame_equal(found.self_repair, joined, check_row_order=False, check_column_order=False)


def test_weights_have_the_digest_that_their_files_have() -> None:
    own = share_model(AutoModelForCausalLM.from_pretrained(DEMO_FOLDER, dtype="auto")).record
    loaded = load_model("demo", precision=PRECISIONS["float32"], device=torch.device("cpu")).record
    assert own.weights_sha256 == loaded.weights_sha256
    assert own.config_sha256 == loaded.config_sha256
    assert own.architecture == loaded.architecture


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=SLOW)])
def test_half_precision_is_measured_as_it_is(dtype: str, tmp_path: Path) -> None:
    model = edited("gpt2", getattr(torch, dtype))
    measure(model, IDS, ablations="zero", into=tmp_path / "w.duckdb")
    assert Warehouse(tmp_path / "w.duckdb").runs()["dtype"].to_list() == [dtype]
    assert model.dtype == getattr(torch, dtype)


def ids_of(found: Measurements) -> list[list[int]]:
    return found.prompts.sort("document_id")["token_ids"].to_list()


ARRAYS: dict[str, Callable[[list[list[int]]], object]] = {
    "tensor": torch.tensor,
    "int32 array": lambda ids: np.array(ids, dtype=np.int32),
    "list of tensors": lambda ids: [torch.tensor(row) for row in ids],
    "tuple of tuples": lambda ids: tuple(map(tuple, ids)),
    "rows": lambda ids: [{"tokens": row} for row in ids],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARRAYS)
def test_ids_are_taken_as_they_are(kind: str) -> None:
    found = measure(families.build("gpt2"), ARRAYS[kind](IDS[:2]), ablations="mean", heads="L1H0")
    assert ids_of(found) == IDS[:2]


def test_prompts_of_several_lengths_keep_their_place_in_the_list() -> None:
    ids = [[0, 5, 9, 7], [0, 5], [0, 8, 3], [0, 6, 4, 9]]
    found = measure(families.build("gpt2"), ids, ablations="mean", heads=[(1, 0)])
    assert ids_of(found) == ids
    assert found.prompts["document_id"].to_list() == [1, 2, 0, 3]
    assert found.measurements.height == 3 + 1 + 2 + 3


def test_texts_begin_with_bos_and_read_as_texts() -> None:
    tokenizer = tiny.tokenizer()
    found = measure(families.build("gpt2"), tiny.TEXTS[1:2], tokenizer=tokenizer, ablations=["zero"], layers=2)
    (ids,) = ids_of(found)
    assert ids == [0, *tokenizer(tiny.TEXTS[1], add_special_tokens=False)["input_ids"]]
    assert found.self_repair["token"][0] == "<|end|>"


def test_texts_that_spell_special_tokens_are_counted_as_ingest_counts_them(tmp_path: Path) -> None:
    tokenizer = tiny.tokenizer()
    texts = ["<|end|>A list", "x <pad> y", "a tuple", "<|end|>holds <pad>"]
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    shared = share_model(families.build("gpt2"), None, tokenizer)
    options = PromptOptions(n_prompts=4, seq_len=12, packing="document", resample=False)
    notes = build_prompts(open_source(str(file)), shared.vocabulary, options).notes
    with pytest.warns(SpecialTokensInText, match="3 documents spell .*2 of them begin with the token that") as found:
        measure(families.build("gpt2"), texts, tokenizer=tokenizer, ablations="zero", heads="L2H1")
    assert [str(one.message) for one in found] == [note for note in notes if "spell" in note]
    assert [one.filename for one in found] == [__file__]
    rows = [{"text": "<|end|>A list", "answer": " a"}, {"text": "a tuple", "answer": " a"}]
    with pytest.warns(SpecialTokensInText, match=r"1 document spells special tokens \(<\|end\|>\)"):
        measure(families.build("gpt2"), rows, tokenizer=tokenizer, ablations="zero", heads="L2H1")


def test_of_rows_with_an_answer_only_that_is_scored() -> None:
    rows = [{"tokens": [0, 5, 9], "answer": 7, "foil": 8}, {"tokens": [0, 6, 4], "answer": 3, "foil": 2}]
    found = measure(families.build("gpt2"), rows, ablations="zero", heads="L2H1")
    assert found.measurements["pos"].to_list() == [2, 2]
    assert found.tokens["foil_id"].to_list() == [8, 2]


def test_heads_that_are_given_are_ablated_in_both_runs() -> None:
    model = families.build("gpt2")
    found = measure(model, IDS, ablations="zero", heads=["L2H1"], given=[(1, 0)]).measurements.sort("prompt_id", "pos")
    with torch.no_grad():
        reference = naive.measure(model, IDS, [0] * 5, 2, 1, "zero", [(1, 0)])
    np.testing.assert_allclose(found["logit_change"], reference["logit_change"].flatten(), atol=NEAREST)


@pytest.mark.slow
def test_every_mechanism_has_its_tables() -> None:
    names = "edges,neurons_all,logit_lens,logprobs,self_repression"
    found = measure(families.build("gpt2", torch.float32), IDS, mechanisms=names)
    of_experts = {"routing_sums", "expert_sums"}
    assert set(found.mechanisms) == set(MECHANISM_TABLES) - of_experts
    found = measure(sweep.build("mixtral").float(), IDS, mechanisms="experts", ablations="zero")
    assert set(found.mechanisms) == of_experts
    assert found.mechanisms["routing_sums"]["rerouted_rows"].sum() > 0


def test_the_same_call_again_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, db = edited("gpt2"), tmp_path / "w.duckdb"
    run = measure(model, IDS, ablations="zero", into=db, model_name="edited")
    monkeypatch.setattr(runner, "measure_unit", None)
    assert measure(model, IDS, ablations="zero", into=db, model_name="edited", batch_size=3) == run
    assert [path.name for path in tmp_path.iterdir()] == ["w.duckdb"]


@pytest.mark.slow
def test_other_weights_of_the_same_name_are_another_run(tmp_path: Path) -> None:
    db = tmp_path / "w.duckdb"
    runs = [
        measure(model, IDS, ablations="zero", into=str(db), model_name="mine")
        for model in (families.build("gpt2"), edited("gpt2"))
    ]
    assert runs == [1, 2]
    assert Warehouse(db).models()["name"].to_list() == ["mine", "mine"]


@pytest.mark.slow
def test_what_was_finished_before_an_error_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "ROWS_IN_UNIT", 100)
    model, db, done = edited("gpt2"), tmp_path / "w.duckdb", []
    measure_unit = runner.measure_unit

    def third_fails(plan, measurer, parts, unit, *more):
        if len(done) == 2:
            raise SelfRepairError("the machine is on fire. Put it out.")
        done.append(unit.number)
        return measure_unit(plan, measurer, parts, unit, *more)

    monkeypatch.setattr(runner, "measure_unit", third_fails)
    with pytest.raises(SelfRepairError, match="on fire"):
        measure(model, IDS, ablations="mean", into=db)
    monkeypatch.setattr(runner, "measure_unit", lambda *every: done.append(every[3].number) or measure_unit(*every))
    run = measure(model, IDS, ablations="mean", into=db)
    assert sorted(done) == [0, 1, 2, 3, 4]
    rows = Warehouse(db).view("measurements", run=run).drop("run_id")
    assert_frame_equal(measure(model, IDS, ablations="mean").measurements, rows, check_row_order=False)


def test_whatever_an_edited_model_computes_with_is_in_its_key() -> None:
    """Parameters alone would give an edited model the key of the model before, and so its rows."""

    class Steered(torch.nn.Module):
        def __init__(self, inner: torch.nn.Module, vector: float) -> None:
            super().__init__()
            self.inner = inner
            self.register_buffer("vector", torch.tensor(vector))

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return self.inner(hidden) + self.vector

    def key(edit) -> str:
        model = families.build("gpt2")
        edit(model)
        return str(share_model(model).record.config_sha256)

    def steer(vector: float):
        def edit(model) -> None:
            model.transformer.h[1].ln_2 = Steered(model.transformer.h[1].ln_2, vector)

        return edit

    def widen(model) -> None:
        model.transformer.ln_f.eps = 0.1

    keys = [key(lambda model: None), key(widen), key(steer(0.5)), key(steer(0.75))]
    assert len(set(keys)) == 4
    assert key(steer(0.75)) == keys[-1]


def test_frequencies_that_were_changed_in_memory_are_in_the_key() -> None:
    model = families.build("llama-grouped")
    before = share_model(model).record.config_sha256
    model.model.rotary_emb.inv_freq.mul_(1 + 1e-9)  # as another device may round
    assert share_model(model).record.config_sha256 == before
    model.model.rotary_emb.inv_freq.mul_(0.5)
    assert share_model(model).record.config_sha256 != before


def test_a_replaced_forward_is_refused() -> None:
    model = families.build("gpt2")
    norm = model.transformer.h[0].ln_1
    norm.forward = lambda hidden: hidden
    with pytest.raises(SelfRepairError, match=r"forward of transformer\.h\.0\.ln_1 was replaced.*class of your own"):
        measure(model, IDS)
