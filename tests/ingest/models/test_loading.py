"""Models that load, and the refusal of those that do not fit."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, OPTConfig, T5Config, T5ForConditionalGeneration

from selfrepair.ingest.checks.preflight import preflight
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.adapter import adapt
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.models.weights import use_fused_gelu, weights_sha256
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError
from support import families, tiny

CPU = torch.device("cpu")
STATUS = Path("/proc/self/status")
SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 61}


def load(name, dtype="float32", **options):
    return load_model(str(name), precision=PRECISIONS[dtype], device=CPU, **options)


def test_a_folder_loads_with_its_record(tmp_path):
    loaded = load(tiny.save(tmp_path / "my-llama", "llama-grouped"))
    record = loaded.record
    assert (record.name, record.architecture, record.norm) == ("my-llama", "LlamaForCausalLM", "rmsnorm")
    assert (record.n_layers, record.n_heads, record.n_kv_heads, record.d_model) == (3, 6, 2, 24)
    assert (record.d_head, record.d_mlp, record.d_vocab, record.parallel_blocks) == (4, 40, 61, False)
    assert record.n_parameters == sum(p.numel() for p in families.build("llama-grouped").parameters())
    assert loaded.tokenizer is not None
    assert not loaded.adapter.model.training


def test_the_weights_digest_does_not_depend_on_the_precision_of_the_run(tmp_path):
    folder = tiny.save(tmp_path / "model", "pythia")
    digests = {load(folder, dtype).record.weights_sha256 for dtype in ("float32", "float64", "bfloat16")}
    assert len(digests) == 1
    other = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        next(other.parameters())[0, 0] += 1e-3
    assert weights_sha256(other) not in digests


def test_half_precision_keeps_the_rotary_frequencies(tmp_path):
    folder = tiny.save(tmp_path / "model", "llama-grouped")
    whole, half = load(folder), load(folder, "bfloat16")
    assert half.adapter.layer_dtype == torch.bfloat16
    assert torch.equal(half.adapter.model.model.rotary_emb.inv_freq, whole.adapter.model.model.rotary_emb.inv_freq)


def test_a_model_without_tokenizer_loads(tmp_path):
    families.build("opt", torch.float32).save_pretrained(tmp_path)
    assert load(tmp_path).tokenizer is None


def test_the_fused_gelu_is_the_same_function():
    model = families.build("gpt2")
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        before = model(tokens).logits
        use_fused_gelu(model)
        assert isinstance(model.transformer.h[0].mlp.act, torch.nn.GELU)
        torch.testing.assert_close(model(tokens).logits, before, rtol=0, atol=1e-12)


def test_what_is_no_model_names_the_next_step(tmp_path):
    with pytest.raises(SelfRepairError, match=r"holds no config.json.*save_pretrained"):
        load(tmp_path)
    (tmp_path / "config.json").write_text("{not json")
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(SelfRepairError, match=r"tokenizer.json is a pipe.*Remove it"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(SelfRepairError, match=r"cannot be loaded"):
        load(tmp_path)
    with pytest.raises(SelfRepairError, match=r"folder '\./nope' does not exist"):
        load("./nope")
    with pytest.raises(SelfRepairError, match="the demo model has one set of weights"):
        load("demo", checkpoint=3)
    with pytest.raises(SelfRepairError, match="--revision and --checkpoint both choose"):
        load(tmp_path, revision="main", checkpoint=1000)


def test_a_folder_without_weights_says_so(tmp_path):
    families.CONFIGS["gpt2"].save_pretrained(tmp_path)
    with pytest.raises(SelfRepairError, match=r"not a complete model in Hugging Face format"):
        load(tmp_path)


INDEXES = {
    '{"weight_map": {"a": "model-1.safetensors", "b": "../../etc/passwd"}}': r"it names '\.\./\.\./etc/passwd', which is",
    '{"weight_map": {"a": ".."}}': r"it names '\.\.', which",
    '{"weight_map": {"a": "C:model.safetensors"}}': "it names 'C:model.safetensors', which",
    r'{"weight_map": {"a": "..\\model.safetensors"}}': "it names '.*model.safetensors', which",
    '{"weight_map": {"a": 3}}': "it names 3, which",
    '{"weight_map": {"a": ["b"]}}': "it holds no weight_map",
    '{"weight_map": []}': "it holds no weight_map",
    "[" * 100_000: "it holds no weight_map",
    "{}": "it holds no weight_map",
}


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "other.safetensors"])
def test_an_index_names_files_of_its_folder_alone(tmp_path, weights):
    families.CONFIGS["gpt2"].save_pretrained(tmp_path)
    if weights == "other.safetensors":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | {"transformers_weights": f"{weights}.index.json"}))
    for content, said in INDEXES.items():
        (tmp_path / f"{weights}.index.json").write_text(content)
        with pytest.raises(
            SelfRepairError, match=rf"\({re.escape(weights)}\.index\.json is damaged: {said}.*save it again"
        ):
            load(tmp_path)


def test_missing_shards_are_named(tmp_path):
    families.build("opt", torch.float32).save_pretrained(tmp_path, max_shard_size="8KB")
    assert load(tmp_path).record.architecture == "OPTForCausalLM"
    lost = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))[1:3]
    for name in lost:
        (tmp_path / name).unlink()
    with pytest.raises(
        SelfRepairError, match=rf"2 of its weight files are not there: {', '.join(lost)}\).*save it again"
    ):
        load(tmp_path)


def test_weights_that_are_not_in_the_files_are_not_made_up(tmp_path):
    model = families.build("gpt2", torch.float32)
    weights = model.state_dict()
    lost = "transformer.h.1.mlp.c_fc.bias"
    model.save_pretrained(tmp_path, state_dict={name: value for name, value in weights.items() if name != lost})
    with pytest.raises(SelfRepairError, match=rf"1 of its parameters is in none of its files: {lost}\)"):
        load(tmp_path)


def test_a_damaged_file_of_weights_is_refused(tmp_path):
    tiny.save(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SelfRepairError, match=r"\(SafetensorError: .*not a complete model in Hugging Face format"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("family", families.CONFIGS)
def test_half_precision_on_disk_is_measured_in_float32(tmp_path, family, dtype):
    families.build(family, dtype).save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert {parameter.dtype for parameter in loaded.adapter.model.parameters()} == {torch.float32}
    tokens = torch.randint(3, families.VOCABULARY, (2, 10), generator=torch.Generator().manual_seed(1))
    preflight(loaded.adapter, tokens, PRECISIONS["float32"], family)
    measured = Measurer(
        loaded.adapter,
        RunSettings(
            ("zero",),
            [(layer, head) for layer in range(loaded.adapter.n_layers) for head in range(loaded.adapter.n_heads)],
        ),
        batch_size=4,
    ).measure(next_token_targets(tokens), None, range(2))
    assert 0 < measured.identity_error_max() < 1e-3


def peak_mb() -> float:
    """Most memory that the process has had since this was asked last [MB]."""
    peak = int(re.search(r"VmHWM:\s+(\d+)", STATUS.read_text())[1]) / 1024
    STATUS.with_name("clear_refs").write_text("5")
    return peak


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells the peak of memory in use")
def test_loading_holds_the_weights_once(tmp_path):
    config = families.CONFIGS["pythia"].__class__(
        hidden_size=512, num_hidden_layers=3, num_attention_heads=8, vocab_size=61
    )
    AutoModelForCausalLM.from_config(config).half().save_pretrained(tmp_path)
    on_disk_mb = (tmp_path / "model.safetensors").stat().st_size / 2**20
    peak_mb()
    before = peak_mb()
    loaded = load(tmp_path)
    assert loaded.record.n_parameters * 2 / 2**20 == pytest.approx(on_disk_mb, rel=0.01)
    # The file, which is mapped into memory, and its float32 copy: a half and one; a second copy would be two and a half.
    assert peak_mb() - before < 1.8 * 2 * on_disk_mb


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = tiny.save(tmp_path)
    tiny.tokenizer(size=64).save_pretrained(folder)
    with pytest.raises(
        SelfRepairError, match=r"another model's tokenizer: it has 64 tokens, and the model knows ids 0 to 60"
    ):
        load(folder)
    padded = tiny.tokenizer()
    padded.add_special_tokens({"pad_token": "[PAD]"})
    padded.save_pretrained(folder)
    assert len(load(folder).tokenizer) == 62, "a token for padding is in no text"
    padded.bos_token = "[PAD]"
    padded.save_pretrained(folder)
    with pytest.raises(SelfRepairError, match=r"its BOS token is 61, and the model knows ids 0 to 60. Save its own"):
        load(folder)


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class TinyConfig(LlamaConfig):
    model_type = "tiny-of-its-own"


class TinyForCausalLM(LlamaForCausalLM):
    config_class = TinyConfig
"""


def test_a_models_own_code_runs_only_when_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tiny.save(tmp_path / "own", "llama-grouped")
    (folder / "tiny_code.py").write_text(f"{CODE}\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "tiny_code.TinyConfig", "AutoModelForCausalLM": "tiny_code.TinyForCausalLM"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "tiny-of-its-own", "auto_map": classes}))
    with pytest.raises(
        SelfRepairError, match=r"\(it needs custom code .*\). Read that code, .* add --trust-remote-code"
    ):
        load(folder)
    assert not (tmp_path / "ran").exists()
    loaded = load(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()
    assert type(loaded.adapter.model).__name__ == "TinyForCausalLM"
    assert loaded.record.architecture == "LlamaForCausalLM"


def test_families_that_do_not_fit_are_refused_with_the_reason(tmp_path):
    post_norm = AutoModelForCausalLM.from_config(
        OPTConfig(**SMALL, ffn_dim=40, word_embed_proj_dim=32, do_layer_norm_before=False)
    )
    with pytest.raises(SelfRepairError, match="normalises the residual stream itself"):
        adapt(post_norm, "opt-350m")
    T5ForConditionalGeneration(
        T5Config(vocab_size=61, d_model=16, d_kv=4, d_ff=20, num_layers=1, num_heads=4)
    ).save_pretrained(tmp_path)
    with pytest.raises(SelfRepairError, match="it is an encoder-decoder"):
        load(tmp_path)


def test_a_soft_cap_that_the_model_does_not_apply_is_refused():
    config = families.CONFIGS["gpt2"].__class__(**families.CONFIGS["gpt2"].to_dict())
    config.final_logit_softcapping = 30.0
    with pytest.raises(SelfRepairError, match="its logits are not a multiple of what its unembedding makes"):
        adapt(AutoModelForCausalLM.from_config(config), "capped")
