"""Every family of the table is measured right, or refused for the reason that the table gives."""

import itertools

import pytest
import torch
from click.testing import CliRunner
from torch.overrides import TorchFunctionMode
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    MambaConfig,
    Olmo2Config,
    OPTConfig,
    T5Config,
    T5ForConditionalGeneration,
)

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.checks.preflight import check_self_repression, preflight
from selfrepair.ingest.cli.models import models
from selfrepair.ingest.conventions import ABLATIONS, EFFECTS, PRECISIONS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.models.families import EITHER, FAMILIES, REFUSED, SHARED
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError
from support import families, naive
from support.tiers import only

PARTNERS = [1, 2, 0]
SEQ = 8


class WithoutFloat32(TorchFunctionMode):
    """While it is on, nothing is cast to float32: some families' attention does so whatever the model's type, and leaves
    1e-6 between one prompt at a time and several.
    """

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.to and arguments[1:] == (torch.float32,):
            return arguments[0]
        return function(*arguments, **(keywords or {}))


SMALL = {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "vocab_size": families.VOCABULARY}
LLAMA = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 40}
REFUSED_CONFIGS = {
    "Gemma 2": Gemma2Config(**LLAMA, head_dim=8),
    "Gemma 3": Gemma3TextConfig(**LLAMA, head_dim=8),
    "OLMo 2": Olmo2Config(**LLAMA),
    "OPT 350M": OPTConfig(**SMALL, ffn_dim=40, word_embed_proj_dim=24, do_layer_norm_before=False),
    "Cohere Command R": CohereConfig(**LLAMA),
    "Granite": GraniteConfig(**LLAMA, residual_multiplier=0.25),
    "Mamba": MambaConfig(num_hidden_layers=2, hidden_size=16, vocab_size=families.VOCABULARY),
    "T5, BART": T5Config(vocab_size=families.VOCABULARY, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_heads=4),
}


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


@pytest.mark.parametrize("row", FAMILIES, ids=lambda row: row.name)
def test_the_table_says_what_the_weights_say(row):
    adapters = [
        adapt(families.build(name), name)
        for name, config in (families.CONFIGS | families.MORE_CONFIGS).items()
        if type(families.build(name)).__name__ == row.architecture
    ]
    assert adapters, "a small model of each family is built"
    assert {adapter.norm for adapter in adapters} == {row.norm}
    blocks = {"parallel" if adapter.parallel_blocks else "sequential" for adapter in adapters}
    assert blocks == ({"parallel", "sequential"} if row.blocks == EITHER else {row.blocks})
    if row.key_value_heads != SHARED:
        assert all(adapter.n_kv_heads == adapter.n_heads for adapter in adapters)


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row.name)
def test_what_is_refused_is_refused_for_the_reason_in_the_table(row):
    config = REFUSED_CONFIGS[row.name]
    torch.manual_seed(0)
    encoder_decoder = config.is_encoder_decoder
    model = (T5ForConditionalGeneration(config) if encoder_decoder else AutoModelForCausalLM.from_config(config)).eval()
    assert type(model).__name__ == row.architecture
    model.config.architectures = [row.architecture]
    with pytest.raises(SelfRepairError) as refusal:
        preflight(adapt(model, "some/model"), prompts(), PRECISIONS["float32"], "some/model")
    assert f"{row.reason}" in str(refusal.value)
    assert str(refusal.value).startswith("model 'some/model' cannot be measured: ")


def test_the_list_names_every_family_and_needs_no_warehouse():
    result = CliRunner().invoke(models, ["--supported", "--db", "nowhere.duckdb"])
    assert result.exit_code == 0
    for row in (*FAMILIES, *REFUSED):
        assert row.name in result.output
        assert all(example in result.output for example in row.examples[:2])
    assert all(row.reason in result.output for row in REFUSED)


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
