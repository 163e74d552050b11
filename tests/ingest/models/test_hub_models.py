"""Models of the hub: every revision, shards, gates, and all that can go wrong on the way.

The clients are the real ones; the hub is on this machine.
"""

import resource
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, hf_hub_download
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.hub.access import offline_reason
from selfrepair.ingest.models.hub.snapshot import fetch_model
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.models.weights import weights_sha256
from selfrepair.ingest.request.model_shape import check_fits_model
from selfrepair.warehouse.errors import SelfRepairError
from support import families, hub, tiny
from support.prompts import request

NAME = "lab/tiny"
WEIGHTS = r"GET /[0-9a-f]{64}/model\.safetensors"
ROOM = 1 << 16
"""Bytes, for a model whose weights take more and whose other files take less."""


def load(name=NAME, **options):
    return load_model(name, precision=PRECISIONS["float32"], device=torch.device("cpu"), **options)


def refusal(match):
    return pytest.raises(SelfRepairError, match=match)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Models that differ in their layers, so that each is known again."""
    root = tmp_path_factory.mktemp("models")
    saved = {family: tiny.save(root / family, family) for family in ("gpt2", "pythia", "qwen2")}
    for kind, options in (("sharded", {"max_shard_size": "8KB"}), ("pickled", {})):
        tiny.tokenizer().save_pretrained(root / kind)
        families.build("opt", torch.float32).save_pretrained(root / kind, **options)
        saved[kind] = root / kind
    torch.save(families.build("opt", torch.float32).state_dict(), root / "pickled" / "pytorch_model.bin")
    (root / "pickled" / "model.safetensors").unlink()
    return saved


@pytest.fixture
def server(folders, tmp_path):
    """A hub with one model, which this process asks."""
    with hub.serve() as running, hub.ask_only(running.address, tmp_path / "cache"):
        running.add("models", NAME, folders["gpt2"])
        yield running


def test_each_revision_has_its_own_weights_and_is_fetched_once(server, folders):
    server.add("models", NAME, folders["pythia"], "step1000")
    server.add("models", NAME, folders["qwen2"], "v1", tag=True)
    main, checkpoint, tag = load(), load(checkpoint=1000), load(revision="v1")
    found = [
        (loaded.record.architecture, loaded.record.revision, loaded.record.checkpoint)
        for loaded in (main, checkpoint, tag)
    ]
    assert found == [
        ("GPT2LMHeadModel", None, None),
        ("GPTNeoXForCausalLM", "step1000", 1000),
        ("Qwen2ForCausalLM", "v1", None),
    ]
    assert main.record.name == NAME
    assert main.tokenizer is not None
    fetched = len(server.asked("GET .*(resolve|safetensors)"))
    assert load(checkpoint=1000).record.weights_sha256 == checkpoint.record.weights_sha256
    assert len(server.asked("GET .*(resolve|safetensors)")) == fetched


def test_a_commit_hash_is_a_revision_too(server, folders):
    old = server.add("models", NAME, folders["qwen2"], "step1")
    assert load(revision=old.sha).record.architecture == "Qwen2ForCausalLM"


def test_a_renamed_model_loads_under_its_old_name(server):
    server.rename("models", "tiny", NAME)
    assert load("tiny").record.name == "tiny"
    assert server.asked(f"GET /api/models/{NAME}")


@pytest.mark.parametrize("kind", ["sharded", "pickled"])
def test_shards_and_pickled_weights_load(server, folders, kind):
    server.add("models", "lab/other", folders[kind])
    loaded = load("lab/other").record
    assert loaded.weights_sha256 == load(folders[kind]).record.weights_sha256
    files = sorted(path.name for path in folders[kind].glob("*[0-9nl].*[ns]"))
    assert (kind == "sharded") == (len(list(folders[kind].glob("model-*.safetensors"))) > 1), files
    assert not server.asked("discussions|commits"), "nobody is asked to convert pickled weights"


def test_what_is_not_the_model_is_not_fetched(server, folders, tmp_path):
    copy = shutil.copytree(folders["gpt2"], tmp_path / "copy")
    for extra in (
        "tf_model.h5",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "onnx/config.json",
        "consolidated.safetensors",
    ):
        (copy / extra).parent.mkdir(exist_ok=True)
        (copy / extra).write_bytes(b"large")
    server.add("models", "lab/other", copy)
    folder = fetch_model("lab/other", None)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {path.name for path in folders["gpt2"].iterdir()}


def test_what_the_model_does_not_have_is_refused_before_its_weights_are_fetched(server):
    for options, said in (
        ({"heads": "L9H6"}, "--heads L9H6 is not in the model, whose heads go from L0H0 to L2H3"),
        ({"layers": "2-3"}, "--layers 2-3 is not in the model, which has layers 0 to 2"),
        ({"seq_len": 33}, "--seq-len 33 is longer than the model's context of 32 tokens"),
    ):
        with refusal(said):
            check_fits_model(request(model=NAME, **options))
    check_fits_model(request(model=NAME, heads="L2H3", seq_len=32))
    assert not server.asked(WEIGHTS)
    asked = len(server.requests)
    check_fits_model(request(model=NAME))
    assert len(server.requests) == asked, "nothing was chosen that could be wrong"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks
def test_an_adapter_is_fetched_with_its_base_and_nothing_else(server, folders, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(folders["gpt2"])
    tuned = get_peft_model(base, LoraConfig(target_modules=["c_attn"], init_lora_weights=False, fan_in_fan_out=True))
    tuned.peft_config["default"].base_model_name_or_path = NAME
    tuned.save_pretrained(tmp_path / "tuned")
    (tmp_path / "tuned" / "optimizer.pt").write_bytes(b"large")
    server.add("models", "lab/tuned", tmp_path / "tuned")
    record = load("lab/tuned").record
    assert (record.name, record.revision) == ("lab/tuned", f"LORA on {NAME}")
    assert record.weights_sha256 == weights_sha256(tuned.merge_and_unload())
    assert len(server.asked(WEIGHTS)) == len(server.asked(WEIGHTS.replace("model", "adapter_model"))) == 1
    assert not server.asked("optimizer")


def test_a_gated_model_asks_for_a_token_and_loads_with_it(server, folders, monkeypatch):
    server.add("models", "lab/gated", folders["gpt2"], gated=True)
    page = f"{server.address}/lab/gated"
    with refusal(rf"'lab/gated' cannot be loaded \(it is gated\). Accept its terms at {page}, .*HF_TOKEN"):
        load("lab/gated")
    monkeypatch.setenv("HF_TOKEN", server.other_token)
    with refusal(rf"belongs to an account without access: accept the terms at {page} with that account"):
        load("lab/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_mistyped")
    with refusal(r"\(the hub rejects the token\). Make a new one at .*/settings/tokens"):
        load("lab/gated")
    monkeypatch.setenv("HF_TOKEN", server.token)
    assert load("lab/gated").record.name == "lab/gated"
    assert not any(request.authorized for request in server.asked(WEIGHTS)), "a token is for the hub alone"


@pytest.mark.parametrize("status", [401, 403])
def test_a_mirror_that_wants_a_token_says_so(server, status):
    server.fail("GET /api/models", status, times=1000)
    with refusal(rf"reading it needs a token with access.*Set HF_TOKEN to a token that may read {NAME}"):
        load()


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("pythia-160m", "EleutherAI/pythia-160m"),
        ("eleutherai/Pythia-160M-deduped", "EleutherAI/pythia-160m"),
        ("lab/tinny", NAME),
        ("tiny", NAME),
        ("dmeo", "demo"),
    ],
)
def test_a_wrong_name_gets_near_ones(server, wrong, meant):
    fetch_model(NAME, None)  # so that it is in the cache
    with refusal(
        rf"model '{wrong}' cannot be loaded \(the hub has no such model\).*Did you mean .*{meant}",
    ):
        load(wrong)


def test_a_name_like_no_other_gets_an_example(server):
    with refusal("Give a hub id such as EleutherAI/pythia-160m") as failed:
        load("xyzzy")
    assert "Did you mean" not in str(failed.value)
    with refusal("this is not a valid hub id"):
        load("some model/of mine")


def test_a_wrong_revision_gets_those_there_are(server, folders):
    with refusal(r"at revision 'step5' cannot be .*no training checkpoints .*it has --revision main"):
        load(checkpoint=5)
    for step in (0, 512, 1000, 2000, 143000):
        server.add("models", NAME, folders["gpt2"], f"step{step}")
    with refusal(r"'step1500' cannot be .*Nearest: --checkpoint 512 or 1000 or 2000 or 143000"):
        load(checkpoint=1500)
    with refusal(r"'mian' cannot be .*no such revision\). It has --revision main\."):
        load(revision="mian")


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "what", ["GET /api/models/lab/tiny/revision", "HEAD .*/config.json", "GET .*/config.json", WEIGHTS]
)
def test_a_busy_hub_is_asked_again(server, status, what):
    server.fail(what, status, times=2, retry_after="0")
    assert load().record.name == NAME
    assert len(server.asked(what)) >= 3


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, r"\(too many requests to the hub\). Wait some minutes"),
        (503, r"\(the hub did not deliver its files: .*503.*\). Run the same command again: complete files are not"),
    ],
)
def test_a_hub_that_stays_busy_is_given_up(server, status, said):
    server.fail("GET .*/model.safetensors", status, times=1000)
    with refusal(said):
        load()


def test_a_broken_download_goes_on_where_it_broke(server, folders, monkeypatch):
    whole = (folders["gpt2"] / "model.safetensors").read_bytes()
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is received is written in pieces of this size
    server.break_off(WEIGHTS, after=5500)
    folder = fetch_model(NAME, None)
    assert (folder / "model.safetensors").read_bytes() == whole
    assert [request.range for request in server.asked(WEIGHTS)] == [None, "bytes=5000-"]


def test_a_download_that_breaks_again_and_again_is_given_up_and_goes_on_later(server):
    server.break_off(WEIGHTS, after=0, times=1000)
    with refusal(r"did not deliver its files: RemoteProtocolError: .*Run the same command again"):
        fetch_model(NAME, None)
    small = len(server.asked("GET .*resolve"))
    server.forgive()
    fetch_model(NAME, None)
    assert len(server.asked("GET .*resolve")) == small


@pytest.mark.parametrize("what", ["GET /api/models", "HEAD .*/config.json", "GET .*/config.json", WEIGHTS])
@pytest.mark.slow
def test_a_hub_that_stops_answering_is_given_up(server, what, monkeypatch):
    assert offline_reason() is None  # asked with the patience that is usual
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    server.stall(what, times=1000)
    with refusal(r"'lab/tiny' cannot be loaded \(the hub stopped answering\). Run the same .* HF_HUB_DOWNLOAD_TIMEOUT"):
        load()
    assert 0 < len(server.asked(what)) < 25


def test_the_cache_serves_where_the_hub_fails(server):
    first = load()
    server.fail("api/models", 503, times=1000)
    assert load().record.weights_sha256 == first.record.weights_sha256


def test_offline_the_cache_of_another_program_serves_too_if_it_is_whole(server, folders, monkeypatch):
    AutoModelForCausalLM.from_pretrained(NAME)  # which lists no files, so that nothing says which there should be
    server.add("models", "lab/other", folders["gpt2"])
    hf_hub_download("lab/other", "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = load()
    assert loaded.record.weights_sha256 == load(folders["gpt2"]).record.weights_sha256
    assert loaded.tokenizer is None
    with refusal(r"'lab/other' cannot be loaded \(HF_HUB_OFFLINE is set.*not complete in the local cache"):
        load("lab/other")


@pytest.fixture(params=["tmpfs", "limit"])
def full_cache(request, tmp_path):
    """The cache has less room than the model's weights need: its disk is small, or the system allows no larger file."""
    cache = tmp_path / "cache"
    cache.mkdir()
    if request.param == "tmpfs":
        options = ["-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(cache)]
        if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a small disk")
        yield cache / "hub"
        subprocess.run(["umount", str(cache)], check=True)
    else:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, limits[1]))
        yield cache / "hub"
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_named(full_cache, server):
    with refusal(rf"there is not enough space for its files in {full_cache}\). Free some, .*HF_HOME"):
        load()
    assert not list(full_cache.rglob("*.incomplete"))
    assert not list(full_cache.rglob("model.safetensors"))


def test_an_index_that_names_files_elsewhere_is_refused(server, folders, tmp_path):
    copy = shutil.copytree(folders["sharded"], tmp_path / "copy")
    (copy / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../../etc/passwd"}}')
    server.add("models", "lab/elsewhere", copy)
    with refusal(r"'lab/elsewhere' cannot be loaded \(.* names '\.\./\.\./etc/passwd'.*try another --revision"):
        load("lab/elsewhere")
    assert not server.asked("passwd")


def test_a_model_in_parts_that_the_hub_lacks(server, folders, tmp_path):
    copy = shutil.copytree(folders["sharded"], tmp_path / "copy")
    lost = sorted(copy.glob("model-*.safetensors"))[1]
    lost.unlink()
    server.add("models", "lab/cut", copy)
    with refusal(rf"1 of its weight files is not there: {lost.name}\).*try another --revision"):
        load("lab/cut")
