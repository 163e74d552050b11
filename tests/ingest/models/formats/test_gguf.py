"""GGUF files: what is measured is what they hold, dequantized; those that cannot be read whole are refused by their header."""

import re

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.formats.gguf_header import read_header
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.models.shape import Shape, read_shape
from selfrepair.warehouse.errors import SelfRepairError
from support import gguf_files, tiny

TOKENS = torch.arange(3, 20)[None]


def load(file):
    return load_model(str(file), precision=PRECISIONS["float32"], device=torch.device("cpu"))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=48,
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def quantized(model, tmp_path_factory):
    return gguf_files.write(
        tmp_path_factory.mktemp("gguf") / "tiny-Q8_0.gguf", model, tiny.tokenizer(), quantization="Q8_0"
    )


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def test_plain_numbers_come_back_as_they_were(model, tmp_path):
    loaded = load(gguf_files.write(tmp_path / "tiny.gguf", model))
    torch.testing.assert_close(logits(loaded.adapter.model), logits(model), rtol=0, atol=1e-6)
    assert (loaded.record.name, loaded.record.revision, loaded.notes) == ("tiny", "GGUF F32", ())
    assert loaded.tokenizer is None


def test_quantized_weights_are_measured_dequantized_and_that_is_told(model, quantized):
    loaded = load(quantized)
    weight = model.model.layers[1].mlp.up_proj.weight.detach().numpy()
    rounded = gguf.dequantize(gguf.quantize(weight, gguf.GGMLQuantizationType.Q8_0), gguf.GGMLQuantizationType.Q8_0)
    assert np.array_equal(loaded.adapter.model.model.layers[1].mlp.up_proj.weight.detach().numpy(), rounded)
    assert not np.array_equal(rounded, weight)
    torch.testing.assert_close(logits(loaded.adapter.model), logits(model), rtol=0, atol=0.02)
    record = loaded.record
    assert (record.name, record.revision) == ("tiny-Q8_0", "GGUF Q8_0, dequantized")
    assert loaded.notes == (
        "The weights are quantized (GGUF Q8_0). They are dequantized, and that is what is measured.",
    )
    assert loaded.packages == ("gguf",)


def test_the_tokenizer_comes_from_the_file(quantized):
    tokenizer = load(quantized).tokenizer
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 0)
    text = "for name in names"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]).strip() == text


def test_the_header_tells_the_shape_without_torch(quantized):
    assert read_shape(quantized) == Shape(n_layers=2, n_heads=4, context=48, n_experts=None)
    header = read_header(quantized)
    assert header.architecture == "llama"
    assert {tensor.name: tensor.n_values for tensor in header.tensors}["blk.1.ffn_up.weight"] == 64 * 96


def test_damaged_files_are_refused(quantized, tmp_path):
    whole = quantized.read_bytes()
    cut = {
        "none": (whole[:10], "is 10 bytes long, and no GGUF file"),
        "other": (b"ABCD" + whole[4:], "does not begin with the letters GGUF"),
        "version": (whole[:4] + b"\x09" + whole[5:], "GGUF of version 9, and versions 2 and 3 are read"),
        "header": (whole[:600], "damaged, or ends within its header"),
        "half": (whole[: len(whole) // 2], "it is cut off: blk"),
        "end": (whole[:-2000], r"it is cut off: .* ends at byte [\d,]+, and the file at [\d,]+"),
        "count": (whole[:16] + b"\xff" * 8 + whole[24:], "damaged, or ends within its header"),
    }
    for name, (data, said) in cut.items():
        file = tmp_path / f"{name}.gguf"
        file.write_bytes(data)
        with pytest.raises(SelfRepairError, match=rf"\(.*{said}.*\)\. \w+"):
            load(file)


def test_what_the_packages_cannot_read_is_refused_with_their_version(model, quantized, tmp_path):
    file = gguf_files.write(tmp_path / "unknown.gguf", model, architecture="llama-of-its-own")
    with pytest.raises(
        SelfRepairError, match=r"transformers [\d.]+ does not read the architecture llama-of-its-own from GGUF"
    ):
        load(file)
    kind = gguf.GGMLQuantizationType
    name = b"blk.0.ffn_up.weight"
    data = bytearray(quantized.read_bytes())
    place = data.index(name) + len(name) + 4 + 2 * 8
    for number, said in (
        (kind.Q8_1, "quantized as Q8_1, which the package gguf"),
        (250, r"are of type 250, which the .* not know"),
    ):
        data[place] = int(number)
        file.write_bytes(data)
        with pytest.raises(SelfRepairError, match=said):
            load(file)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("rope_freqs.weight", r"scales its rotary frequencies \(rope_freqs.weight\), which transformers"),
        (
            "blk.9.ffn_up.weight",
            r"it holds [\d,]+ weights, and the LlamaForCausalLM that its header describes has [\d,]+",
        ),
    ],
)
def test_weights_that_would_be_left_out_are_not(model, tmp_path, tensor, said):
    file = gguf_files.write(tmp_path / "more.gguf", model, more={tensor: np.ones(8, np.float32)})
    with pytest.raises(SelfRepairError, match=rf"{said}.*as a folder in Hugging Face format"):
        load(file)


def test_a_folder_of_gguf_files_names_one(quantized):
    with pytest.raises(SelfRepairError, match=rf"holds no config.json.*--model {re.escape(str(quantized))}"):
        load(quantized.parent)


def test_a_missing_package_is_named(quantized, monkeypatch):
    monkeypatch.setattr("selfrepair.ingest.models.formats.gguf_weights.importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SelfRepairError, match=r"needs the package gguf, which is not installed\)\. Install it: pip install gguf"
    ):
        load(quantized)
