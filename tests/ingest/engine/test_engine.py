"""Every column of every row against the naive reference, and what must not change a number."""

import itertools

import pytest
import torch

from selfrepair.ingest.conventions import ABLATIONS, EFFECTS, PRECISIONS
from selfrepair.ingest.engine.ablation import identity_error
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measured import Measured
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from support import families, naive
from support.tiers import only

PARTNERS = [1, 2, 3, 4, 0]
PROMPTS, SEQ = 5, 9


def prompts() -> torch.Tensor:
    tokens = torch.randint(2, families.VOCABULARY, (PROMPTS, SEQ), generator=torch.Generator().manual_seed(3))
    tokens[:, 0] = 0
    return tokens


def measure(model, *, batch_size: int = 7, heads=None, ablations=ABLATIONS, **options) -> tuple[Measurer, Measured]:
    adapter = adapt(model, "test")
    heads = heads or list(itertools.product(range(adapter.n_layers), range(adapter.n_heads)))
    measurer = Measurer(adapter, RunSettings(ablations, heads, **options), batch_size=batch_size)
    tokens = prompts()
    measurer.means = measurer.head_value_sums(tokens) / tokens.numel()
    return measurer, measurer.measure(next_token_targets(tokens), tokens[PARTNERS][:, :-1], range(PROMPTS))


def column(measured: Measured, name: str) -> torch.Tensor:
    return measured.effects[..., EFFECTS.index(name)]


@pytest.fixture(scope="module", params=only(("gpt2", "llama-grouped"), families.CONFIGS))
def family(request):
    return request.param


@pytest.fixture(scope="module")
def reference(family):
    """[ablated, prompt, pos, effect] from the naive reference, in the engine's order of head_ablations."""
    model = families.build(family)
    layers, heads = len(naive.parts_of(model).blocks), model.config.num_attention_heads
    rows = []
    with torch.no_grad():
        for layer, head, ablation in itertools.product(range(layers), range(heads), ABLATIONS):
            columns = naive.measure(model, prompts().tolist(), PARTNERS, layer, head, ablation)
            rows.append(torch.stack([columns[name] for name in EFFECTS], dim=-1))
    return torch.stack(rows)


def test_every_row_and_column_equals_the_naive_reference(family, reference):
    _, measured = measure(families.build(family))
    assert measured.effects.shape == reference.shape
    torch.testing.assert_close(measured.effects, reference, rtol=0, atol=1e-8)


def test_float32_stays_within_storage_rounding(family, reference):
    _, measured = measure(families.build(family, torch.float32))
    stored = (measured.effects.double() * 1e4).round() / 1e4
    torch.testing.assert_close(stored, reference, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_the_identity_and_the_order_of_magnitude(family, reference, dtype):
    _, measured = measure(families.build(family, getattr(torch, dtype)), precision=PRECISIONS[dtype])
    assert measured.effects.dtype == torch.float32
    assert measured.identity_error_max() < 1e-4
    error = (measured.effects - reference).abs().mean()
    assert float(error) < 0.1 * float(reference.abs().mean())


def test_identity_holds_on_every_row(family):
    _, measured = measure(families.build(family))
    assert float(identity_error(measured.effects).max()) < 1e-12
    _, measured = measure(families.build(family, torch.float32))
    assert measured.identity_error_max() < 2e-5


def test_structure_is_exact(family):
    measurer, measured = measure(families.build(family))
    last = torch.tensor([ablated.layer == measurer.adapter.n_layers - 1 for ablated in measured.head_ablations])
    resample = torch.tensor([ablated.ablation == "resample" for ablated in measured.head_ablations])
    zero = torch.tensor([ablated.ablation == "zero" for ablated in measured.head_ablations])
    assert bool((column(measured, "repair_attention")[last] == 0).all())
    assert bool((column(measured, "repair_attention")[~last] != 0).any())
    if measurer.adapter.parallel_blocks:
        assert bool((column(measured, "repair_mlp")[last] == 0).all())
    else:
        assert bool((column(measured, "repair_mlp")[last] != 0).any())
    assert bool((column(measured, "ablated_direct_effect")[zero] == 0).all())
    # Every prompt begins with the same token, so that resampling its first position changes nothing.
    for name in ("logit_change", "repair_layernorm", "repair_attention", "repair_mlp"):
        assert float(column(measured, name)[resample][:, :, 0].abs().max()) < 1e-12


def test_direct_effect_is_the_same_whatever_the_ablation(family):
    _, measured = measure(families.build(family))
    direct = column(measured, "direct_effect").unflatten(0, (-1, len(ABLATIONS)))
    assert torch.equal(direct[:, 0], direct[:, 1])
    assert torch.equal(direct[:, 0], direct[:, 2])


@pytest.mark.parametrize("batch_size", [1, 2, 1000])
def test_batch_size_changes_nothing(family, batch_size):
    _, expected = measure(families.build(family), batch_size=7)
    _, measured = measure(families.build(family), batch_size=batch_size)
    torch.testing.assert_close(measured.effects, expected.effects, rtol=0, atol=1e-12)
    torch.testing.assert_close(measured.prediction.logit, expected.prediction.logit, rtol=0, atol=1e-12)


def test_a_subset_of_heads_and_ablations_gives_the_same_rows(family):
    _, whole = measure(families.build(family))
    _, part = measure(families.build(family), heads=[(1, 2), (0, 1)], ablations=("mean",))
    assert [(ablated.layer, ablated.head) for ablated in part.head_ablations] == [(0, 1), (1, 2)]
    picked = [whole.head_ablations.index(ablated) for ablated in part.head_ablations]
    torch.testing.assert_close(part.effects, whole.effects[picked], rtol=0, atol=1e-12)


def test_clean_prediction_is_the_models_own(family):
    model = families.build(family)
    _, measured = measure(model)
    with torch.no_grad():
        logits = torch.stack([naive.forward(model, row).logits for row in prompts().tolist()])[:, :-1]
    targets = prompts()[:, 1:, None]
    logprobs = logits.log_softmax(-1)
    own = logits.gather(-1, targets)
    # The family's own RMSNorm rounds to float32, whatever the model's dtype.
    tolerance = {"rtol": 0, "atol": 1e-5}
    torch.testing.assert_close(measured.prediction.logit, own[..., 0] - logits.mean(-1), **tolerance)
    torch.testing.assert_close(measured.prediction.logprob, logprobs.gather(-1, targets)[..., 0], **tolerance)
    torch.testing.assert_close(measured.prediction.entropy, -(logprobs.exp() * logprobs).sum(-1), **tolerance)
    assert torch.equal(measured.prediction.rank, (logits > own).sum(-1) + 1)


def test_running_out_of_memory_halves_the_batch_and_loses_nothing():
    model = families.build("gpt2")
    _, expected = measure(model)
    limit, refused = 3, []

    def refuse_large(module, arguments):
        if len(arguments[0]) > limit:
            refused.append(len(arguments[0]))
            raise torch.OutOfMemoryError("CUDA out of memory (as a GPU would say)")

    handle = model.transformer.h[1].mlp.register_forward_pre_hook(refuse_large)
    rows, halved = [], []
    adapter = adapt(model, "test")
    measurer = Measurer(
        adapter,
        RunSettings(ABLATIONS, list(itertools.product(range(adapter.n_layers), range(adapter.n_heads)))),
        batch_size=40,
        on_halved=halved.append,
    )
    tokens = prompts()
    measurer.means = measurer.head_value_sums(tokens) / tokens.numel()
    measured = measurer.measure(next_token_targets(tokens), tokens[PARTNERS][:, :-1], range(PROMPTS), rows.append)
    handle.remove()
    assert refused
    assert halved == [20, 10, 5, 2]
    assert sum(rows) == measured.effects[..., 0].numel()
    torch.testing.assert_close(measured.effects, expected.effects, rtol=0, atol=1e-12)
