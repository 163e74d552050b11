"""The comparison of stored rows with the float64 reference finds what is there, and what is not."""

import pytest

from benchmarks import reference_rows, trained_llama
from selfrepair.ingest.conventions import EFFECTS
from support import tiny

N_PROMPTS, SEQ_LEN = 3, 9


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A warehouse with the run of a small Llama, and the model's folder."""
    folder = tmp_path_factory.mktemp("reference")
    model = tiny.save(folder / "llama", "llama-grouped")
    run_id = reference_rows.measure(str(model), folder / "w.duckdb", N_PROMPTS, SEQ_LEN)
    return folder / "w.duckdb", run_id, model


def test_every_stored_row_is_the_references(run):
    found = reference_rows.compare(*run)
    n_heads = 3 * 6
    assert found.rows == 3 * n_heads * N_PROMPTS * (SEQ_LEN - 1)
    assert tuple(found.largest) == EFFECTS
    assert found.agrees


def test_rows_of_other_weights_differ(run, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    db, run_id, folder = run
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight *= 1.01
    model.save_pretrained(tmp_path)
    found = reference_rows.compare(db, run_id, tmp_path)
    assert not found.agrees
    assert found.largest["repair_mlp"] > reference_rows.ALLOWED


def test_a_llama_is_trained_and_can_be_loaded(tmp_path):
    first, last = trained_llama.train(tmp_path, 2, 0, ["def f(x):\n    return x\n" * 400])
    assert 7 < first < 8.5  # the logarithm of the bundled tokenizer's 2,048 tokens is 7.6
    assert (tmp_path / "tokenizer.json").exists()
    assert last > 0
