"""What is wrong with a request is said as soon as it can be known: at once, or at least before a model is loaded."""

import json
import subprocess
import sys

import pytest
import torch

from selfrepair.ingest.request.model_shape import check_fits_model
from selfrepair.ingest.request.validation import check_request
from selfrepair.ingest.runs import requested
from selfrepair.warehouse.errors import SelfRepairError
from support.prompts import jsonl, request

WRONG = [
    (["--ablation", "knockout"], "--ablation knockout is unknown"),
    (["--layers", "top"], "--layers top is not a layer"),
    (["--heads", "9.6"], "--heads 9.6 is not a head"),
    (["--given", "all"], "--given all is not a head"),
    (["--given", "L0H0"], "--given needs a single --ablation, such as --ablation resample"),
    (["--given", ",", "--ablation", "mean"], "--given is empty"),
    (["--given", "L0H0", "--heads", "L0H0,L1H1", "--ablation", "mean"], "L0H0 is in --heads and in --given"),
    (["--layers", "5-3"], "--layers 5-3 ends before it begins"),
    (["--layers", ","], "--layers and --heads are empty"),
    (["--checkpoint", "1,2"], "model 'demo' has one set of weights"),
    (["--shard", "3/2"], "--shard 3/2 is not i/n"),
    (["--batch-size", "0"], "--batch-size 0 is neither"),
    (["--checkpoint", "last"], "--checkpoint last is not a training step"),
    (["--checkpoint", "2147483648"], "--checkpoint 2147483648 is not a training step"),
    (["--seq-len", "1"], "--seq-len 1 leaves no position"),
    (["--seq-len", "32770"], "--seq-len 32770 is longer than the 32769 tokens that a warehouse takes"),
    (["--seed", "-1"], "--seed -1 is not a seed. Use a whole number from 0 to"),
    (["--dataset", "missing.txt"], "dataset file missing.txt does not exist"),
    (["--dataset", "mine.csv"], "dataset file mine.csv does not exist. Give a .txt, .jsonl or .parquet file"),
    (["--dataset", "stdlib", "--split", "dev"], "has no split 'dev'"),
    (["--dataset", "random", "--text-column", "body"], "--text-column body does not apply to dataset 'random'"),
    (["--protocol", "rushing2024", "--seq-len", "64"], "--protocol rushing2024 fixes --seq-len 128"),
    (["--heads", "L9H6"], "--heads L9H6 is not in the model, whose heads go from L0H0 to L5H7"),
    (["--given", "L0H8", "--ablation", "mean"], "--given L0H8 is not in the model"),
    (["--layers", "4-6"], "--layers 4-6 is not in the model, which has layers 0 to 5"),
    (["--seq-len", "129"], "--seq-len 129 is longer than the model's context of 128 tokens"),
    (["--model", "./nowhere"], "folder './nowhere' does not exist"),
    (["--model", "none.gguf"], "file 'none.gguf' does not exist"),
    (["--model", "demo", "--revision", "main"], "the demo model has one set of weights"),
]
NOT_HERE = [
    (["--device", "cuda"], "--device cuda is not on this machine (found:"),
    (["--device", "mps"], "--device mps is not on this machine (found:"),
    (["--dtype", "tf32"], "--dtype tf32 needs an NVIDIA GPU. Use --dtype float32"),
]
"""Where torch can use neither CUDA nor Apple's GPU."""


def test_mistakes_are_told_without_torch_which_takes_seconds_to_import():
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    wrong = WRONG + ([] if has_gpu else NOT_HERE)
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "from click.testing import CliRunner\n"
        "from selfrepair.app.cli.main import main\n"
        f"for options, _ in {wrong!r}:\n"
        "    print(CliRunner().invoke(main, ['ingest', '--model', 'demo', *options]).output.splitlines()[-1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == len(wrong)
    for line, (_, message) in zip(said, wrong, strict=True):
        assert line.startswith("Error: ")
        assert message in line


def test_a_usual_request_passes():
    check_request(request())


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"body": "a"}], {}, "text"),
        ([{"text": "a"}], {"text_column": "body"}, "body"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_refused_before_the_model_is_loaded(
    tmp_path, monkeypatch, rows, options, message
):
    monkeypatch.setattr(requested, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    path = jsonl(tmp_path / "a.jsonl", *rows)
    with pytest.raises(SelfRepairError, match=message):
        requested.make_plan(request(dataset=str(path), **options))


def test_all_neurons_of_a_mixture_of_experts_are_refused_by_its_config(tmp_path):
    config = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_local_experts": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SelfRepairError, match=r"--neurons all: .* mixtures of 8 experts.* Use --neurons none"):
        check_fits_model(request(model=str(tmp_path), neurons="all"))
    for allowed in ({"neurons": "last"}, {"neurons": "none", "heads": "L1H3"}):
        check_fits_model(request(model=str(tmp_path), **allowed))


@pytest.mark.parametrize(("rows", "is_refused"), [([{"text": "a"}], True), ([{"tokens": [1, 2]}], False)])
def test_the_length_is_that_of_prompts_made_of_text(tmp_path, rows, is_refused):
    path = str(jsonl(tmp_path / "a.jsonl", *rows))
    if is_refused:
        with pytest.raises(SelfRepairError, match=r"--seq-len 400 is longer than the model's context of 128 tokens"):
            check_fits_model(request(dataset=path, seq_len=400))
    else:
        check_fits_model(request(dataset=path, seq_len=400))
