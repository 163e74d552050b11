"""Quantized checkpoints: those that can be undone are measured dequantized, and others are refused with what is missing."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GptOssConfig, LlamaConfig

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.formats import quantization
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.models.weights import read_weights
from selfrepair.warehouse.errors import SelfRepairError
from support import tiny

FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
"""What the sixteen codes of MXFP4 stand for (OCP Microscaling Formats, section 5.3.3)."""


def load(folder):
    return load_model(str(folder), precision=PRECISIONS["float32"], device=torch.device("cpu"))


def is_quantized(name, weight):
    return weight.ndim == 2 and "proj" in name


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized") / "plain"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=128,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def save(plain, folder, weights, settings):
    shutil.copytree(plain, folder, dirs_exist_ok=True)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    return folder


def as_fp8(plain, folder):
    stored, whole = {}, {}
    for name, weight in load_file(plain / "model.safetensors").items():
        stored[name] = whole[name] = weight
        if is_quantized(name, weight):
            scale = weight.abs().max().reshape(1, 1) / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"], whole[name] = scale, stored[name].float() * scale
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic", "fmt": "e4m3"}
    return save(plain, folder, stored, settings), whole


def as_compressed_tensors(plain, folder):
    stored, whole = {}, {}
    for name, weight in load_file(plain / "model.safetensors").items():
        stored[name] = whole[name] = weight
        if is_quantized(name, weight):
            scale = weight.abs().amax(1, keepdim=True) / 127
            stored[name] = (weight / scale).round().to(torch.int8)
            stored[name.replace(".weight", ".weight_scale")], whole[name] = scale, stored[name].float() * scale
    scheme = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme}},
    }
    return save(plain, folder, stored, settings), whole


@pytest.mark.parametrize("quantize", [as_fp8, as_compressed_tensors])
def test_what_is_measured_is_exactly_what_the_numbers_stand_for(plain, tmp_path, quantize):
    folder, whole = quantize(plain, tmp_path / "quantized")
    loaded = load(folder)
    found = loaded.adapter.model.state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-6, atol=0)
    method = json.loads((folder / "config.json").read_text())["quantization_config"]["quant_method"]
    assert loaded.record.revision == f"{method}, dequantized"
    assert loaded.notes == (
        f"The weights are quantized ({method}). They are dequantized, and that is what is measured.",
    )
    assert loaded.packages == quantization.packages_of(method)
    assert loaded.record.config_sha256 == load(plain).record.config_sha256


def test_experts_in_mxfp4(tmp_path):
    sizes = {
        "vocab_size": 61,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_local_experts": 2,
        "num_hidden_layers": 1,
    }
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "num_experts_per_tok": 1}
    model = AutoModelForCausalLM.from_config(GptOssConfig(**sizes, **heads, layer_types=["full_attention"]))
    model.save_pretrained(tmp_path / "plain")
    stored = load_file(tmp_path / "plain" / "model.safetensors")
    experts = "model.layers.0.mlp.experts"
    whole = {}
    for name, n_out, n_in in (("gate_up_proj", 64, 64), ("down_proj", 64, 32)):
        codes = torch.randint(16, (2, n_out, n_in // 32, 32))
        scales = torch.randint(120, 130, (2, n_out, n_in // 32), dtype=torch.uint8)
        del stored[f"{experts}.{name}"]
        stored[f"{experts}.{name}_blocks"] = (codes[..., ::2] + 16 * codes[..., 1::2]).to(torch.uint8)
        stored[f"{experts}.{name}_scales"] = scales
        whole[name] = (FP4[codes] * 2.0 ** (scales.float() - 127)[..., None]).flatten(2).transpose(1, 2)
    folder = save(tmp_path / "plain", tmp_path / "quantized", stored, {"quant_method": "mxfp4"})
    found = read_weights(folder, "tiny", trust_remote_code=False)
    assert found.origin == "mxfp4, dequantized"
    for name, weight in whole.items():
        torch.testing.assert_close(found.model.get_parameter(f"{experts}.{name}").data, weight, rtol=0, atol=0)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_of_bitsandbytes(plain, tmp_path, bits):
    config = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4")
    quantized = AutoModelForCausalLM.from_pretrained(plain, quantization_config=config, device_map={"": "cpu"})
    quantized.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    weight = loaded.adapter.model.model.layers[0].mlp.up_proj.weight
    before = load_file(plain / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    off = (weight - before).abs().max() / before.abs().max()
    assert 0 < off < (0.2 if bits == 4 else 0.01)
    assert len(weight[0].unique()) <= (2 * 16 if bits == 4 else 255), "two blocks of 64 share a scale each"
    assert loaded.record.revision == "bitsandbytes, dequantized"
    assert {type(module).__module__.partition(".")[0] for module in loaded.adapter.model.modules()} <= {
        "torch",
        "transformers",
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq with the package gptqmodel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq with the package gptqmodel"),
        ({"quant_method": "nobody's"}, "nobody's"),
    ],
)
def test_other_ways_to_quantize_are_refused(tmp_path, settings, said):
    folder = tiny.save(tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    with pytest.raises(
        SelfRepairError,
        match=rf"its weights are quantized \({said}\), which is not undone .*Give the model that it was made",
    ):
        load(folder)


@pytest.mark.parametrize("method", ["bitsandbytes", "compressed-tensors"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, method):
    folder = tiny.save(tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    monkeypatch.setattr("selfrepair.ingest.models.formats.quantization.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SelfRepairError, match=rf"the package {method}, .* not installed\)\. Install it: pip install {method}"
    ):
        load(folder)
