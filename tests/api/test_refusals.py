"""What cannot be measured is refused with the next step in the terms of a Python call."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Model

from selfrepair import SelfRepairError, measure
from selfrepair._python_terms import in_python
from support import families, tiny

ROOT = Path(__file__).parents[2]
IDS = [[0, 5, 9, 7], [0, 8, 3, 4]]

REFUSED: dict[str, tuple[object, dict[str, Any], str]] = {
    "one token": ([[0, 5], [3]], {}, r"^prompts\[1\] holds 1 tokens; a prompt needs 2 or more\.$"),
    "no prompt": ([], {}, r"^prompts is empty\. Pass one or more\.$"),
    "one prompt, resample": (IDS[:1], {}, r"only one of 4 tokens.*two or more.*ablations=\"mean,zero\"\.$"),
    "one of its length": ([*IDS, [3, 4]], {}, r"prompts\[2\] is the only one of 2 tokens"),
    "duplicates": ([IDS[0], IDS[0]], {}, r"prompts\[0\] and prompts\[1\] are the same.*Drop one"),
    "same but the last": ([[0, 5, 9], [0, 5, 8]], {}, r"the same but for their last token"),
    "unknown id": ([[0, 5], [0, 61]], {}, r"^prompts\[1\] holds token id 61; .* 0 to 60"),
    "negative id": ([[0, -1], [0, 6]], {}, r"^prompts\[0\] holds token id -1"),
    "too long": ([[7] * 33, [8] * 33], {}, r"^prompts\[0\] holds 33 tokens.*context.*32"),
    "one list of ids": (IDS[0], {}, r"^prompts\[0\] is not a list of token ids.*list of lists"),
    "fractions": (torch.rand(2, 3), {}, r"^prompts\[0\] is not a list of token ids.*whole numbers"),
    "a mask": (torch.ones(2, 3, dtype=torch.bool), {}, r"bool is not a token id"),
    "one text": ("for name in names", {}, r"^prompts is one str\. Pass a list"),
    "a batch": ({"input_ids": torch.tensor(IDS)}, {}, r"^prompts is a dict\. Pass the ids alone, without padding"),
    "texts alone": (["for name in names"], {}, r"^prompts\[0\] is text\. Pass the model's tokenizer="),
    "columns": ([{"txet": "a"}], {}, r"^prompts\[0\] has neither `text`.*nor `tokens`"),
    "answer": ([{"tokens": [0, 1], "answer": " a"}], {}, r"^prompts\[0\].*`answer` is ' a', not a token id"),
    "another's tokenizer": (IDS, {"tokenizer": tiny.tokenizer(70)}, r"another model's tokenizer.*tokenizer=, or none"),
    "ablation": (IDS, {"ablations": "resmaple"}, r"^ablations resmaple is unknown\. Choose from resample"),
    "layer": (IDS, {"layers": 3}, r"^layers=\"3\" is not in the model, which has layers 0 to 2"),
    "head": (IDS, {"heads": [(1, 4)]}, r"^heads L1H4 is not in the model"),
    "twice": (IDS, {"heads": "L1H1", "given": "L1H1"}, r"heads and in given: it cannot be ablated twice"),
    "given, three ways": (IDS, {"given": [(1, 1)]}, r"ablations=\"resample\""),
    "mechanism": (IDS, {"mechanisms": ["edgs"]}, r"there is no 'edgs'\. Choose from edges"),
    "early heads": (
        IDS,
        {"layers": 0, "mechanisms": "self_repression"},
        r'layers="2-2", or leave "self_repression" out of mechanisms',
    ),
    "batch size": (IDS, {"batch_size": 0}, r"batch_size=0 .*Pass 1 or more"),
    "no folder": (IDS, {"into": "/nowhere/w.duckdb"}, r"no folder /nowhere.*into="),
}


@pytest.mark.parametrize("case", REFUSED)
def test_prompts_and_choices(case: str) -> None:
    prompts, choices, message = REFUSED[case]
    with pytest.raises(SelfRepairError, match=message) as refused:
        measure(families.build("gpt2"), prompts, **choices)
    assert " --" not in str(refused.value)


def mixed(model: Any) -> Any:
    model.transformer.h[1].mlp.to(torch.float32)
    return model


def hooked(model: Any) -> Any:
    model.transformer.h[2].register_forward_hook(lambda *every: None)
    return model


def quantized(model: Any) -> Any:
    model.transformer.h[0].mlp.c_fc.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    return model


def broken(model: Any) -> Any:
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    return model


class Wrapper(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.module = model


MODELS = {
    "not a model": (lambda model: "gpt2", r"^a str is neither.*AutoModelForCausalLM"),
    "no logits": (lambda model: GPT2Model(model.config), r"^a GPT2Model is neither"),
    "wrapped": (Wrapper, r"pass model\.module"),
    "compiled": (torch.compile, r"pass model\._orig_mod"),
    "two types": (mixed, r"several types \(float64, float32\).*model\.to\(torch\.float32\)"),
    "quantized": (quantized, r"type uint8.*without quantization"),
    "no weights": (lambda model: model.to("meta"), r"on meta, and must be on one device"),
    "hooks": (hooked, r"forward hooks at transformer\.h\.2\..*handle\.remove\(\)"),
    "NaN": (broken, r"NaN or infinity.*Try model\.to\(torch\.float32\)"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("case", MODELS)
def test_models(case: str) -> None:
    change, message = MODELS[case]
    with pytest.raises(SelfRepairError, match=message):
        measure(change(families.build("gpt2")), IDS)


def test_commands_in_an_error_stay_commands() -> None:
    text = "Bring it up to date: selfrepair load --db w.duckdb. Or name another file with --db."
    assert in_python(text) == "Bring it up to date: selfrepair load --db w.duckdb. Or name another file with into=."
    assert in_python("Try --dtype bfloat16, --device cpu.") == 'Try model.to(torch.bfloat16), model.to("cpu").'
    assert in_python("If --dtype float64 passes") == "If model.to(torch.float64) passes"


def test_no_error_of_the_measurement_names_an_option() -> None:
    """Whatever `measure` may let through, read in the source."""
    found = 0
    for folder in ("ingest/checks", "ingest/engine", "ingest/mechanisms", "ingest/models", "ingest/runs", "warehouse"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and re.search(r"(?<!\S)--\w", node.value)
                ):
                    found += 1
                    outside = re.sub(r"selfrepair \w+( --\S+)?", "", in_python(node.value))
                    assert not re.search(r"(?<!\S)--\w", outside), (path, node.value)
    assert found > 20
