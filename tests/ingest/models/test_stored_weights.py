"""Weights stored in bfloat16 and computed with in float32: half of the memory, and the numbers of float32."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from selfrepair.ingest.checks.preflight import preflight
from selfrepair.ingest.checks.reference import PlainForwards
from selfrepair.ingest.conventions import ABLATIONS, PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.models.placement.upcast import store_matrices
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.runs.requested import make_plan
from selfrepair.ingest.text.targets import next_token_targets
from support import sweep, tiny

TOKENS = torch.randint(2, 61, (3, 8), generator=torch.Generator().manual_seed(0))


def load(folder, dtype):
    return load_model(str(folder), precision=PRECISIONS[dtype], device=torch.device("cpu"))


def n_matrix_bytes(loaded) -> int:
    return sum(parameter.nbytes for parameter in loaded.adapter.model.parameters() if parameter.ndim > 1)


def measured(loaded, dtype):
    adapter, precision = loaded.adapter, PRECISIONS[dtype]
    preflight(adapter, TOKENS, precision, "tiny")
    measurer = Measurer(adapter, RunSettings(ABLATIONS, adapter.heads, precision=precision), batch_size=7)
    measurer.means = measurer.head_value_sums(TOKENS) / TOKENS.numel()
    return measurer.measure(next_token_targets(TOKENS), TOKENS[[1, 2, 0]][:, :-1], range(3))


@pytest.mark.parametrize("family", ["gpt2", "gemma", "llama-grouped"])
def test_a_bfloat16_checkpoint_gives_the_numbers_of_float32(tmp_path, family):
    """Of a Conv1D with a tied unembedding, an embedding that scales its rows, and usual layers."""
    folder = tiny.save(tmp_path / "model", family)
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    whole, half = load(folder, "float32"), load(folder, "bfloat16-weights")
    assert 2 * n_matrix_bytes(half) == n_matrix_bytes(whole)
    assert half.adapter.layer_dtype == half.adapter.stream_dtype == torch.float32
    assert not any("rounded" in note for note in half.notes)
    one, other = measured(whole, "float32"), measured(half, "bfloat16-weights")
    assert torch.equal(one.effects, other.effects)
    assert torch.equal(one.prediction.logprob, other.prediction.logprob)
    with torch.no_grad():
        forwards = [PlainForwards(loaded.adapter) for loaded in (whole, half)]
        direct = [each.clean(next_token_targets(TOKENS[:1])).forward.logit for each in forwards]
    assert torch.equal(*direct)


def test_experts_of_a_bfloat16_checkpoint_compute_in_float32():
    """They are parameters of their own, as the router is, and of the matrices' type before anything is cast."""
    half = sweep.build("mixtral").to(torch.bfloat16)
    whole = copy.deepcopy(half).float()
    store_matrices(half, torch.bfloat16, torch.float32)
    kept = {name for name, parameter in half.named_parameters() if parameter.dtype == torch.bfloat16}
    assert kept
    assert not any("experts" in name or "norm" in name for name in kept)
    with torch.no_grad():
        assert torch.equal(half(TOKENS).logits, whole(TOKENS).logits)


def test_other_checkpoints_are_rounded_which_is_said(tmp_path):
    folder = tiny.save(tmp_path / "model")
    texts = tiny.write_texts(tmp_path / "texts.jsonl")
    request = IngestRequest(model=str(folder), dataset=str(texts), n_prompts=2, seq_len=8, device="cpu")
    plans = [make_plan(replace(request, dtype=dtype)) for dtype in ("float32", "bfloat16-weights")]
    assert [plan.record.dtype for plan in plans] == ["float32", "bfloat16-weights"]
    assert len({plan.record.run_key for plan in plans}) == 2
    whole, half = (plan.model for plan in plans)
    assert half.notes[0] == "The weights are rounded to bfloat16, and that is what is measured."
    assert half.record.weights_sha256 == whole.record.weights_sha256
    assert not torch.equal(measured(whole, "float32").effects, measured(half, "bfloat16-weights").effects)
    assert measured(half, "bfloat16-weights").identity_error_max() < 2e-5
