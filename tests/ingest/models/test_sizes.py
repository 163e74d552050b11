"""Sizes in config.json that its weights cannot have are refused before anything is made of them."""

import json
import pickle
import re

import pytest
import torch

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.loading import load_model
from selfrepair.warehouse.errors import SelfRepairError
from support import tiny

WRONG = {
    "n_layer": {
        10**7: "is 10,000,000, and its files hold 40 weights, not one for each layer",
        41: "40 weights",
        0: "from 1",
    },
    "n_embd": {
        10**400: "is enormous",
        40_000: "describes 57,605,360,000 parameters",
        2.0: r"is 2\.0, not a whole number",
    },
    "n_head": {10**9: "is 1,000,000,000, and its weight files are", True: "is True, not a whole number"},
    "vocab_size": {
        10**12: "is 1,000,000,000,000, and its",
        "61": "is '61', not a whole number",
        -61: "is -61, not a whole",
    },
    "n_positions": {20_000: "parameters, and its weight files are", 10**7: "bytes long"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("sizes"), "gpt2")


def refusal(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(SelfRepairError) as raised:
        load_model(str(folder), precision=PRECISIONS["float32"], device=torch.device("cpu"))
    return str(raised.value)


def test_sizes_that_the_weights_cannot_have(folder):
    config = json.loads((folder / "config.json").read_text())
    for name, values in WRONG.items():
        for value, said in values.items():
            found = refusal(folder, {**config, name: value})
            assert re.search(said, found), (name, value, found)
            assert "Put the config.json there that was saved with these weights." in found, found
    assert "its weight files are" in refusal(folder, {**config, "text_config": {"hidden_size": [8, 10**9]}})
    elsewhere = refusal(folder, {**config, "transformers_weights": "../model.safetensors"})
    assert "names the weights '../model.safetensors', which is no file of its folder" in elsewhere
    (folder / "config.json").write_text(json.dumps(config))


def test_a_header_that_is_longer_than_its_file(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    assert "its header is longer" in refusal(tmp_path, config)


def test_a_pickle_of_code_is_refused_without_advice_to_run_it(folder, tmp_path):
    class Code:
        def __reduce__(self):
            return print, ("run",)

    weights = {"transformer.wte.weight": Code(), "more": torch.zeros(30_000)}
    torch.save(weights, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    found = refusal(tmp_path, json.loads((folder / "config.json").read_text()))
    assert "code in it would run as it is read" in found
    assert "Give a model with .safetensors files" in found
    assert "weights_only" not in found
