"""Models whose files and modules are not the same, quantized ones, and files that were never fetched."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.warehouse.errors import SelfRepairError
from support import tiny

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 97851\n"


def load(folder):
    return load_model(str(folder), precision=PRECISIONS["float32"], device=torch.device("cpu"))


def add_to_weights(folder, **tensors):
    file = folder / "model.safetensors"
    weights = load_file(file)
    save_file(
        {**weights, **{name.replace("__", "."): value for name, value in tensors.items()}}, file, {"format": "pt"}
    )


@pytest.mark.parametrize("base", ["EleutherAI/pythia-160m", None])
def test_an_adapter_is_not_left_out_in_silence(tmp_path, base):
    folder = tiny.save(tmp_path / "tuned")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    with pytest.raises(
        SelfRepairError, match=r"it holds an adapter.*LoRA's.*merge_and_unload.*move adapter_config.json out"
    ):
        load(folder)
    for file in (*folder.glob("model*"), folder / "config.json"):
        file.unlink()
    with pytest.raises(SelfRepairError, match=rf'from_pretrained\("{base or "BASE"}"\).*give that folder\.$'):
        load(folder)


def test_weights_that_no_module_takes_are_named(tmp_path):
    folder = tiny.save(tmp_path / "with-head")
    add_to_weights(
        folder, v_head__summary__weight=torch.ones(1, 24), transformer__h__0__attn__c_attn__lora_A=torch.ones(2)
    )
    with pytest.raises(
        SelfRepairError,
        match=r"2 of the weights in its files are in no part .*: transformer\.h\.0\.attn\.c_attn\.lora_A, v_h",
    ):
        load(folder)


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("gpt2", "transformer__h__0__attn__bias"),
        ("gpt2", "transformer__h__0__attn__masked_bias"),
        ("pythia", "gpt_neox__layers__0__attention__masked_bias"),
        ("pythia", "gpt_neox__layers__0__attention__rotary_emb__inv_freq"),
        ("llama-grouped", "model__layers__1__self_attn__rotary_emb__inv_freq"),
    ],
)
def test_masks_and_frequencies_of_earlier_releases_are_no_weights(tmp_path, family, name):
    folder = tiny.save(tmp_path / family, family)
    before = load(folder).record.weights_sha256
    add_to_weights(folder, **{name: torch.ones(1, 1, 4, 4)})
    assert load(folder).record.weights_sha256 == before


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
    ],
)
def test_quantized_weights_say_so(tmp_path, settings, method):
    folder = tiny.save(tmp_path / "small")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    with pytest.raises(
        SelfRepairError, match=rf"its weights are quantized \({method}\).*Give the model that it was made from"
    ):
        load(folder)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_a_clone_without_its_large_files_says_how_to_fetch_them(tmp_path, file):
    folder = tiny.save(tmp_path / "a clone")
    (folder / "pytorch_model.bin").write_text(POINTER)
    assert load(folder).tokenizer is not None, "nobody reads that one"
    (folder / file).write_text(POINTER)
    with pytest.raises(
        SelfRepairError, match=rf"{file} is a Git LFS pointer\). Fetch .*: git -C '.*a clone' lfs pull$"
    ):
        load(folder)
