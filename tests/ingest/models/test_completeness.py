"""Models whose files and modules are not the same, weights that are no numbers, and files that were never fetched."""

import json
import re

import pytest
import torch
import transformers
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


def test_an_adapter_beside_weights_is_not_left_out_in_silence(tmp_path):
    folder = tiny.save(tmp_path / "tuned")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": "lab/base"})
    )
    with pytest.raises(
        SelfRepairError,
        match=r"it holds weights and an adapter.*move adapter_config.json out.*into a folder of their own",
    ):
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


def test_weights_of_another_shape_are_named(tmp_path):
    folder = tiny.save(tmp_path / "model", "llama-grouped")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(weights | {name: weights[name][:5].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        SelfRepairError, match=rf"1 of the weights .* shape .*: {re.escape(name)} is 5 x 24, not 40 x 24"
    ):
        load(folder)


def change_weights(folder, change, *names):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {name: change(weights[name]) for name in names}, folder / "model.safetensors", {"format": "pt"})


def test_weights_that_are_no_numbers_are_named(tmp_path):
    folder = tiny.save(tmp_path / "model")
    change_weights(folder, lambda w: w.masked_fill(w == w.max(), float("nan")), "transformer.h.1.attn.c_attn.weight")
    change_weights(folder, lambda w: w.masked_fill(w == w.max(), float("inf")), "transformer.h.2.ln_1.weight")
    with pytest.raises(
        SelfRepairError,
        match=r"2 of its weights hold NaN or infinite.*h\.1\.attn\.c_attn\.weight, tr.*h\.2\.ln_1\.weight\)",
    ):
        load(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("transformer.wte.weight", r"transformer\.wte\.weight is zero everywhere"),
        ("transformer.ln_f.weight", r"the gain of its final norm is zero everywhere"),
    ],
)
def test_zeros_without_which_nothing_can_be_measured_are_refused(tmp_path, name, said):
    folder = tiny.save(tmp_path / "model")
    change_weights(folder, torch.zeros_like, name)
    with pytest.raises(SelfRepairError, match=said):
        load(folder)


def test_other_zeros_are_told(tmp_path):
    folder = tiny.save(tmp_path / "model")
    assert load(folder).notes == ()
    change_weights(folder, torch.zeros_like, "transformer.h.1.mlp.c_proj.weight", "transformer.h.1.mlp.c_proj.bias")
    (note,) = load(folder).notes
    assert note.startswith("1 weight matrix is zero everywhere: transformer.h.1.mlp.c_proj.weight.")


def test_an_architecture_that_transformers_does_not_know_names_its_version(tmp_path):
    folder = tiny.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "gpt-9", "architectures": ["GPT9LMHeadModel"]})
    )
    with pytest.raises(
        SelfRepairError,
        match=rf"transformers {re.escape(transformers.__version__)} does not know its architecture, gpt-9\)\. .*pip install -",
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
