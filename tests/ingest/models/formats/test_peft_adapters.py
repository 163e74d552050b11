"""Adapters of peft: merged into their base as they are loaded; those of another base are refused by name."""

import json
import shutil

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.warehouse.errors import SelfRepairError
from support import families, tiny

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks
TOKENS = torch.arange(3, 20)[None]
LORA = {"r": 2, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}


def load(folder):
    return load_model(str(folder), precision=PRECISIONS["float32"], device=torch.device("cpu"))


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def adapter_of(base, folder, config):
    """An adapter of the model in folder `base` whose weights are not their initial ones; the model with it."""
    torch.manual_seed(1)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * (0.1 if "ia3" in name else 0.3)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("peft") / "base", "llama-grouped")


@pytest.fixture(scope="module")
def tuned(base):
    folder = base.parent / "tuned"
    adapter_of(base, folder, LoraConfig(**LORA))
    return folder


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LoraConfig(**LORA), "LORA"),
        (LoraConfig(**LORA, use_dora=True, bias="all", modules_to_save=["lm_head"]), "LORA"),
        (IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]), "IA3"),
    ],
    ids=["lora", "dora-and-a-saved-module", "ia3"],
)
def test_an_adapter_is_merged_and_named(base, tmp_path, config, kind):
    expected = logits(adapter_of(base, tmp_path / "tuned", config))
    loaded = load(tmp_path / "tuned")
    torch.testing.assert_close(logits(loaded.adapter.model), expected, rtol=0, atol=1e-5)
    of_base = load(base)
    assert (expected - logits(of_base.adapter.model)).abs().max() > 0.01
    assert (loaded.record.name, loaded.record.revision) == ("tuned", f"{kind} on base")
    assert loaded.record.weights_sha256 != of_base.record.weights_sha256
    assert loaded.record.architecture == "LlamaForCausalLM"
    assert loaded.notes == (
        f"The adapter ({kind}) is merged into the weights of {base}, and that is what is measured.",
    )
    assert loaded.packages == ("peft",)
    assert len(loaded.tokenizer) == len(of_base.tokenizer), "the base's, where the adapter has none"
    assert not [name for name, _ in loaded.adapter.model.named_modules() if "lora" in name]


def test_half_precision_does_not_round_the_change_away(base, tmp_path):
    half = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "base")
    adapter_of(tmp_path / "base", tmp_path / "tuned", LoraConfig(**LORA))
    change = load_file(tmp_path / "tuned" / "adapter_model.safetensors")
    of_module = "base_model.model.model.layers.1.mlp.down_proj"
    delta = 4 * change[f"{of_module}.lora_B.weight"].float() @ change[f"{of_module}.lora_A.weight"].float()
    merged = load(tmp_path / "tuned").adapter.model.model.layers[1].mlp.down_proj.weight
    torch.testing.assert_close(merged - half.model.layers[1].mlp.down_proj.weight.float(), delta, rtol=0, atol=1e-6)


def edited(tuned, folder, **settings):
    shutil.copytree(tuned, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    return folder


@pytest.mark.parametrize(
    ("family", "sizes", "said"),
    [
        (
            "llama-grouped",
            {"intermediate_size": 44},
            r"size mismatch for base_model\.model\.model\.layers\.0\.mlp\.down_proj\.lora_A",
        ),
        ("llama-grouped", {"num_hidden_layers": 2}, r"the base has no place for base_model\.model\.model\.layers\.2\."),
        ("llama-grouped", {"num_hidden_layers": 4}, r"its files lack base_model\.model\.model\.layers\.3\."),
        ("gpt2", {}, r"[Tt]arget modules .*not found in the base model"),
    ],
)
def test_an_adapter_of_another_base_is_refused_by_name(tuned, tmp_path, family, sizes, said):
    config = families.CONFIGS[family].__class__.from_dict(families.CONFIGS[family].to_dict() | sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "other")
    with pytest.raises(
        SelfRepairError,
        match=rf"does not fit its base .*{said}.*Put the model that it was trained on into base_model_name",
    ):
        load(edited(tuned, tmp_path / "mine", base_model_name_or_path=str(tmp_path / "other")))


def test_weights_that_peft_would_leave_out_are_named(tuned, tmp_path):
    folder = edited(tuned, tmp_path / "mine")
    weights = load_file(folder / "adapter_model.safetensors")
    first = min(weights)
    save_file(weights | {"base_model.model.score.weight": torch.ones(2)}, folder / "adapter_model.safetensors")
    with pytest.raises(SelfRepairError, match=r"the base has no place for base_model\.model\.score\.weight"):
        load(folder)
    save_file({name: value for name, value in weights.items() if name != first}, folder / "adapter_model.safetensors")
    with pytest.raises(SelfRepairError, match=rf"its files lack {first}"):
        load(folder)


def test_a_base_that_is_not_there_and_one_that_is_not_named(tuned, tmp_path):
    with pytest.raises(
        SelfRepairError, match=r"is an adapter, whose adapter_config.json names its base: folder '/none' does not"
    ):
        load(edited(tuned, tmp_path / "a", base_model_name_or_path="/none"))
    with pytest.raises(SelfRepairError, match=r"names no model that the adapter was trained on\)\. Put the model that"):
        load(edited(tuned, tmp_path / "b", base_model_name_or_path=None))
    with pytest.raises(SelfRepairError, match=r"it is an adapter of .*tuned, which is one itself"):
        load(edited(tuned, tmp_path / "c", base_model_name_or_path=str(tuned)))


def test_what_cannot_be_merged_is_refused(base, tmp_path):
    adapter_of(base, tmp_path / "prompts", PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(SelfRepairError, match=r"adds tokens to every prompt, and cannot be merged"):
        load(tmp_path / "prompts")


def test_without_peft_the_line_that_installs_it(tuned, monkeypatch):
    monkeypatch.setattr("selfrepair.ingest.models.formats.peft_adapters.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SelfRepairError, match=r"package peft, .*not installed\)\. Install it: pip install peft\. Or .*merge_and"
    ):
        load(tuned)
