"""The caller's model comes back as it was, whatever happens, and what the caller set for PyTorch counts for nothing."""

from typing import Any

import pytest
import torch
from polars.testing import assert_frame_equal

from selfrepair import SelfRepairError, measure
from selfrepair.ingest.checks.reference import Norm
from selfrepair.ingest.runs import runner
from support import families

IDS = [[0, 5, 9, 7], [0, 8, 3, 4], [0, 6, 2, 11]]


def state(model: torch.nn.Module) -> dict[str, Any]:
    """All that measuring might touch."""
    modules = dict(model.named_modules())
    return {
        "modules": {path: (id(module), type(module), module.training) for path, module in modules.items()},
        "attributes": {path: sorted(vars(module)) for path, module in modules.items()},
        "hooks": {
            path: (list(module._forward_hooks), list(module._forward_pre_hooks), list(module._backward_hooks))
            for path, module in modules.items()
        },
        "tensors": {
            name: (id(t), t.data_ptr(), t._version, t.dtype, t.device, t.requires_grad, id(t.grad))
            for name, t in (*model.named_parameters(), *model.named_buffers())
        },
        "values": {name: t.double().sum().item() for name, t in model.state_dict().items()},
        "config": model.config.to_dict(),
        "attention": model.config._attn_implementation,
    }


def usual(model: Any) -> Any:
    return model


def in_train_mode(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    return model.train()


def with_eager_attention(model: Any) -> Any:
    model.set_attn_implementation("eager")
    return model


def half_frozen_with_gradients(model: Any) -> Any:
    model(input_ids=torch.tensor(IDS), labels=torch.tensor(IDS)).loss.backward()
    for parameter in list(model.parameters())[::2]:
        parameter.requires_grad_(False)
    return model


def that_kept_hidden_states(model: Any) -> Any:
    """Transformers installs hooks of its own for this, and leaves them there."""
    model(input_ids=torch.tensor(IDS), output_hidden_states=True, output_attentions=False)
    return model


CONDITIONS: list[Any] = [
    in_train_mode,
    *(
        pytest.param(condition, marks=pytest.mark.slow)
        for condition in (usual, with_eager_attention, half_frozen_with_gradients, that_kept_hidden_states)
    ),
]


@pytest.fixture(scope="module")
def expected():
    return measure(families.build("llama-3"), IDS, mechanisms="self_repression,logit_lens").measurements


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_model_in_any_condition_has_the_same_rows_and_stays_in_it(condition, expected) -> None:
    model = condition(families.build("llama-3"))  # whose embeddings are tied
    before = state(model)
    found = measure(model, IDS, mechanisms="self_repression,logit_lens")
    assert state(model) == before
    assert_frame_equal(found.measurements, expected, abs_tol=1.01e-4)


@pytest.mark.parametrize("stage", ["preflight", "measure_unit", "crosscheck"])
def test_an_error_at_any_stage_leaves_the_model_as_it_was(stage, monkeypatch) -> None:
    model = with_eager_attention(in_train_mode(families.build("gpt2")))
    before = state(model)
    whole = getattr(runner, stage)

    def fails(*every, **named):
        whole(*every, **named)
        raise SelfRepairError(f"after {stage}. Next step.")

    monkeypatch.setattr(runner, stage, fails)
    with pytest.raises(SelfRepairError, match=f"after {stage}"):
        measure(model, IDS, ablations="zero")
    assert state(model) == before


def test_a_crosscheck_that_fails_is_an_error(monkeypatch) -> None:
    scale = Norm.scale
    monkeypatch.setattr(Norm, "scale", lambda norm, x, normed: 2 * scale(norm, x, normed))
    monkeypatch.setattr(runner, "preflight", lambda *every: None)
    model = families.build("gpt2")
    before = state(model)
    with pytest.raises(SelfRepairError, match=r"marked failed.*Try model\.to\(torch\.float64\)"):
        measure(model, IDS, ablations="zero")
    assert state(model) == before


def test_settings_of_pytorch_count_for_nothing_and_stay(expected) -> None:
    model = families.build("llama-3")
    torch.manual_seed(4)
    random = torch.get_rng_state()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
            found = measure(model, IDS)
            assert torch.is_autocast_enabled("cpu")
            assert torch.empty(1).device.type == "meta"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(precision)
    assert torch.equal(torch.get_rng_state(), random)
    assert_frame_equal(found.measurements, expected, abs_tol=1.01e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_model_on_a_gpu_is_measured_there(expected) -> None:
    model = families.build("llama-3").cuda()
    before = state(model)
    assert_frame_equal(measure(model, IDS).measurements, expected, abs_tol=1.01e-4)
    assert state(model) == before
