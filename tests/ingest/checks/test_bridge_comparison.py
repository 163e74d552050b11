"""A family that the cross-check cannot run is refused before anything is measured, and no other is."""

import copy
import json

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, FalconConfig

from selfrepair import Warehouse
from selfrepair.app.cli.main import main
from selfrepair.ingest.checks import bridge_trial, hooks
from selfrepair.ingest.checks.preflight import preflight
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.models.adapter import adapt
from selfrepair.warehouse.errors import SelfRepairError
from support import families

pytestmark = pytest.mark.usefixtures("without_summaries")

REFUSED = r"TransformerBridge, which every run is checked against, cannot run FalconForCausalLM .*\(split_with_sizes"
TOKENS = torch.tensor([[0, 5, 9, 7, 3], [0, 8, 4, 4, 11]])


def falcon(**more):
    """Not in `families`: TransformerLens reads the newer layout of its fused weights wrongly."""
    torch.manual_seed(0)
    config = FalconConfig(vocab_size=61, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, **more)
    config.architectures = ["FalconForCausalLM"]
    return AutoModelForCausalLM.from_config(config).eval()


def newer_falcon():
    return falcon(new_decoder_architecture=True, num_kv_heads=2)


def test_what_the_bridge_cannot_run_is_refused_by_preflight():
    with pytest.raises(SelfRepairError, match=REFUSED + r".*Supported models: selfrepair models --supported"):
        preflight(adapt(newer_falcon(), "falcon"), TOKENS, PRECISIONS["float32"], "falcon")


def test_another_configuration_of_the_same_family_passes():
    model = falcon(new_decoder_architecture=False, multi_query=True)
    preflight(adapt(model, "falcon"), TOKENS, PRECISIONS["float32"], "falcon")


def test_ingest_ends_before_it_measures(tmp_path):
    newer_falcon().save_pretrained(tmp_path / "falcon")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"tokens": row}) for row in TOKENS.tolist()))
    arguments = ["ingest", "--model", str(tmp_path / "falcon"), "--dataset", str(rows), "--prompts", "2"]
    result = CliRunner().invoke(main, [*arguments, "--device", "cpu", "--db", str(tmp_path / "w.duckdb")])
    assert result.exit_code == 1
    assert "cannot run FalconForCausalLM" in result.output
    assert "measuring" not in result.output
    assert not list(tmp_path.glob("*.parts/*/unit-*"))


def booted_by(monkeypatch):
    """The copies that are booted from now on."""
    booted = []
    boot = hooks.boot
    monkeypatch.setattr(hooks, "boot", lambda adapter: booted.append(adapter) or boot(adapter))
    return booted


@pytest.mark.parametrize("family", families.CONFIGS)
def test_the_model_stays_as_it_was_and_only_a_small_copy_is_run(family, monkeypatch):
    model = families.build(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules = [type(module) for module in model.modules()]
    configuration = model.config.to_dict()
    booted = booted_by(monkeypatch)
    bridge_trial.try_bridge(adapt(model, family), family)
    assert [type(module) for module in model.modules()] == modules
    assert model.config.to_dict() == configuration
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    (copy,) = booted
    assert (copy.n_layers, copy.d_vocab) == (1, bridge_trial.LEAST_VOCABULARY)
    assert (copy.n_heads, copy.d_model) == (model.config.num_attention_heads, model.config.hidden_size)


def test_nothing_is_refused_where_no_copy_can_be_made(monkeypatch):
    def stubborn(config):
        raise ValueError("this configuration has as many layers as it has")

    monkeypatch.setattr(bridge_trial, "_cut_down", stubborn)
    bridge_trial.try_bridge(adapt(newer_falcon(), "falcon"), "falcon")


@pytest.mark.parametrize("family", ["gpt2", "llama-grouped", "pythia"])
def test_no_width_of_a_model_is_taken_for_its_vocabulary(family, monkeypatch):
    """The bridge's compatibility mode cannot tell rows from columns of a square unembedding."""
    config = copy.deepcopy(families.build(family).config)
    name = "n_embd" if hasattr(config, "n_embd") else "hidden_size"
    for width in (bridge_trial.LEAST_VOCABULARY, 2 * bridge_trial.LEAST_VOCABULARY):
        setattr(config, name, width)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        booted = booted_by(monkeypatch)
        bridge_trial.try_bridge(adapt(model, family), family)
        (small,) = booted
        assert small.d_model == width
        assert small.d_vocab != width


def test_nothing_is_left_of_a_model_that_is_refused(tmp_path):
    newer_falcon().save_pretrained(tmp_path / "falcon")
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"tokens": row}) for row in TOKENS.tolist()))
    arguments = ["ingest", "--model", str(tmp_path / "falcon"), "--dataset", str(rows), "--prompts", "2"]
    db = tmp_path / "w.duckdb"
    assert CliRunner().invoke(main, [*arguments, "--device", "cpu", "--db", str(db)]).exit_code == 1
    assert not list(tmp_path.glob("*.parts/*"))
    assert Warehouse(db).runs().is_empty()
