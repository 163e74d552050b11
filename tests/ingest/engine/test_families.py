"""What is a family's own (windows, biases by distance, norms of queries) is measured right, by three ablations."""

import itertools

import pytest
import torch
from click.testing import CliRunner
from transformers import T5Config, T5ForConditionalGeneration

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.checks.preflight import check_self_repression, preflight
from selfrepair.ingest.cli.models import models
from selfrepair.ingest.conventions import ABLATIONS, EFFECTS, PRECISIONS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.models.families import families as known_families
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError
from support import families, naive
from support.sweep import WithoutFloat32
from support.tiers import only

PARTNERS = [1, 2, 0]
SEQ = 8


def prompts() -> torch.Tensor:
    return torch.randint(2, families.VOCABULARY, (3, SEQ), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module", params=only(("gpt-j", "mistral", "falcon", "qwen2-windows"), families.MORE_CONFIGS))
def family(request):
    return request.param


def head_ablations_of(adapter) -> list[HeadAblation]:
    """Every head, each ablated in one way."""
    heads = itertools.product(range(adapter.n_layers), range(adapter.n_heads))
    return [HeadAblation(layer, head, ABLATIONS[(layer + head) % 3]) for layer, head in heads]


def measured(model) -> dict[HeadAblation, torch.Tensor]:
    adapter = adapt(model, "test")
    heads = list(itertools.product(range(adapter.n_layers), range(adapter.n_heads)))
    measurer = Measurer(adapter, RunSettings(ABLATIONS, heads), batch_size=7)
    measurer.means = measurer.head_value_sums(prompts()) / prompts().numel()
    found = measurer.measure(next_token_targets(prompts()), prompts()[PARTNERS][:, :-1], range(3))
    return dict(zip(found.head_ablations, found.effects, strict=True))


def test_every_head_equals_the_naive_reference(family):
    model = families.build(family)
    stored = measured(families.build(family, torch.float32))
    with WithoutFloat32():
        exact = measured(families.build(family))
    for ablated in head_ablations_of(adapt(model, family)):
        with torch.no_grad(), WithoutFloat32():
            columns = naive.measure(model, prompts().tolist(), PARTNERS, ablated.layer, ablated.head, ablated.ablation)
        expected = torch.stack([columns[name] for name in EFFECTS], dim=-1)
        torch.testing.assert_close(exact[ablated], expected, rtol=0, atol=1e-8)
        rounded = (stored[ablated].double() * 1e4).round() / 1e4
        torch.testing.assert_close(rounded, expected, rtol=0, atol=2e-4)


def test_preflight_passes_and_hooks_in_compatibility_mode_agree(family):
    model = families.build(family, torch.float32)
    adapter = adapt(model, family)
    preflight(adapter, prompts(), PRECISIONS["float32"], family)
    effects = measured(model)
    zero = torch.zeros(adapter.d_head)
    with torch.no_grad():
        bridge = hooks.boot(adapter)
        clean = hooks.run_clean(bridge, prompts())
        for ablated in (
            HeadAblation(0, 1, "zero"),
            HeadAblation(adapter.n_layers - 1, adapter.n_heads - 1, "zero"),
            HeadAblation(0, 0, "resample"),
        ):
            replacement = clean.head_values(ablated)[PARTNERS] if ablated.ablation == "resample" else zero
            by_hooks = hooks.measure_head_ablation(bridge, clean, ablated, replacement)
            torch.testing.assert_close(by_hooks, effects[ablated], rtol=0, atol=1e-4)


def test_an_encoder_decoder_is_refused():
    config = T5Config(vocab_size=families.VOCABULARY, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_heads=4)
    with pytest.raises(SelfRepairError, match="model 'some/model' cannot be measured: it is an encoder-decoder"):
        adapt(T5ForConditionalGeneration(config), "some/model")


def test_the_list_names_every_family_and_needs_no_warehouse():
    result = CliRunner().invoke(models, ["--supported", "--db", "nowhere.duckdb"])
    assert result.exit_code == 0
    for row in known_families():
        assert row.name in result.output
        assert row.reason in result.output
        assert all(example in result.output for example in row.examples[:2])


def test_self_repression_is_refused_where_prompts_are_longer_than_a_window_of_unknown_width():
    """Clean keys come before the others: attention that counts back a window by itself would not see them."""
    adapter = adapt(families.build("gpt-neo", torch.float32), "gpt-neo")
    with pytest.raises(SelfRepairError, match="Leave --self-repression out"):
        check_self_repression(adapter, prompts(), PRECISIONS["float32"], "gpt-neo")
    for name in ("gpt2", "mistral"):  # the window of the second is told to whatever function computes its attention
        check_self_repression(adapt(families.build(name, torch.float32), name), prompts(), PRECISIONS["float32"], name)


def test_preflight_reads_the_whole_of_the_longest_prompt():
    tokens = torch.randint(2, families.VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(3))
    model = adapt(families.build("gpt2", torch.float32), "gpt2")
    preflight(model, tokens[:, :33], PRECISIONS["float32"], "gpt2")
    with pytest.raises(SelfRepairError, match="cannot be measured"):
        preflight(model, tokens, PRECISIONS["float32"], "gpt2")  # past its 32 positions
