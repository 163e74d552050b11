"""What cannot be measured is refused with the next step in the terms of a Python call."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2Model

from selfrepair import SelfRepairError, measure
from selfrepair.ingest import terms
from selfrepair.ingest.checks.reference import PlainForwards
from selfrepair.warehouse.errors import errors_in, with_dtype
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
    "duplicates among others": (
        [IDS[0], IDS[0], IDS[1], IDS[1]],
        {},
        r"prompts\[\d\] and prompts\[\d\] are the same.*Drop one.*ablations=\"mean,zero\"",
    ),
    "mixed": (
        [{"tokens": [0, 1], "answer": 3}, [0, 1]],
        {},
        r"^prompts mixes? rows of `answer` and of `tokens`\. Measure",
    ),
    "two kinds": (
        [{"tokens": [0, 1], "answer": 3}, {"tokens": [0, 2], "answer": 3, "foil": 4}],
        {},
        r"^prompts\[1\] has a foil, .* measure them one after the other\.",
    ),
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
    "seed": (IDS, {"seed": -1}, r"^seed=-1 is not a seed\. Use a whole number from 0"),
    "ablation": (IDS, {"ablations": "resmaple"}, r"^ablations resmaple is unknown\. Choose from resample"),
    "layer": (IDS, {"layers": 3}, r"^layers 3 is not in the model, which has layers 0 to 2"),
    "head": (IDS, {"heads": [(1, 4)]}, r"^heads L1H4 is not in the model"),
    "twice": (IDS, {"heads": "L1H1", "given": "L1H1"}, r"heads and in given: it cannot be ablated twice"),
    "given, three ways": (IDS, {"given": [(1, 1)]}, r"ablations=\"resample\""),
    "mechanism": (IDS, {"mechanisms": ["edgs"]}, r"there is no 'edgs'\. Choose from edges"),
    "early heads": (
        IDS,
        {"layers": 0, "mechanisms": "self_repression"},
        r'layers="2", or leave "self_repression" out of mechanisms',
    ),
    "unknown argument": (
        IDS,
        {"ablation": "mean"},
        r"argument 'ablation'; did you mean ablations\? The call: measure\(model, ",
    ),
    "number as text": (IDS, {"batch_size": "8"}, r"^batch_size takes a whole number, not '8'\. The call: measure"),
    "one pair": (IDS, {"heads": (9, 6)}, r"^heads takes heads such as \"L9H6,L9H9\" or \[\(9, 6\)"),
    "one number": (IDS, {"given": 3}, r"^given takes heads such as"),
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


def adapted(model: Any) -> Any:
    kind = type("Linear", (type(model.transformer.h[1].attn.c_attn),), {"__module__": "peft.tuners.lora.layer"})
    model.transformer.h[1].attn.c_attn.__class__ = kind
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
    "adapter": (adapted, r"adapter of peft at transformer\.h\.1\.attn\.c_attn.*merge_and_unload"),
    "NaN": (broken, r"NaN or infinity.*Try model\.to\(torch\.float32\)"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("case", MODELS)
def test_models(case: str) -> None:
    change, message = MODELS[case]
    with pytest.raises(SelfRepairError, match=message):
        measure(change(families.build("gpt2")), IDS)


def test_what_stopped_on_the_way_keeps_nothing_without_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(PlainForwards, "measure", broken)
    with pytest.raises(
        SelfRepairError, match=r'use model\.to\("cpu"\)\. Nothing was kept: with into=FILE, the same call'
    ) as lost:
        measure(families.build("gpt2"), IDS, ablations="zero")
    assert "rows are kept" not in str(lost.value)
    with pytest.raises(SelfRepairError, match=r"The measured rows are kept: repeat the call with that, and it only"):
        measure(families.build("gpt2"), IDS, ablations="zero", into=tmp_path / "w.duckdb")


def test_a_model_of_one_layer_has_no_later_half() -> None:
    model = AutoModelForCausalLM.from_config(
        GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16, bos_token_id=0, eos_token_id=0)
    )
    with pytest.raises(
        SelfRepairError, match=r'a model of one layer has none\. Leave "self_repression" out of mechanisms'
    ):
        measure(model, IDS, mechanisms="edges,self_repression")


def test_an_error_is_in_the_terms_of_the_door() -> None:
    with errors_in("python"):
        assert terms.option("ablation", "mean") == 'ablations="mean"'
        assert terms.without_self_repression() == 'leave "self_repression" out of mechanisms'
        assert terms.row_of("texts.jsonl", 2) == "prompts[2]"
        assert with_dtype("float32") == "model.to(torch.float32)"
    assert terms.option("ablation", "mean") == "--ablation mean"
    assert terms.without_self_repression() == (
        "leave --self-repression out (--mechanisms includes it: name --logprobs instead)"
    )
    assert terms.row_of("texts.jsonl", 2) == "texts.jsonl, row 3"
    assert with_dtype("float32") == "--dtype float32"


SHARED = [
    *(path for name in ("checks", "engine", "mechanisms", "runs") for path in (ROOT / "ingest" / name).rglob("*.py")),
    *(
        ROOT / "ingest/models" / f"{name}.py"
        for name in ("adapter", "configuration", "families", "in_memory", "tokenizer", "weights")
    ),
    *(ROOT / "ingest/text" / f"{name}.py" for name in ("answer_prompts", "given_prompts", "pairing", "prompts")),
    *(
        path
        for path in (ROOT / "warehouse").rglob("*.py")
        if path.parent.name != "cli" and path.stem not in ("command", "status")
    ),
]
"""What `measure` runs, too; `command` and `status` are about commands alone."""


def texts(node: ast.AST) -> Iterator[str]:
    """The strings of a module but for its docstrings and what is said on the command line alone."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    is_choice = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "in_words"
    for child in ast.iter_child_nodes(node):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if not is_docstring and not (is_choice and child is node.args[0]):
            yield from texts(child)


def test_no_error_of_the_measurement_names_an_option() -> None:
    """But in commands, which can be typed whatever the door, also where their words are listed one by one."""
    found = [text for path in SHARED for text in texts(ast.parse(path.read_text(encoding="utf-8")))]
    outside = [re.sub(r"(selfrepair|pip) \w+( --\S+)?", "", text) for text in found]
    said = [text for text in outside if not re.fullmatch(r"--[a-z-]+", text)]
    assert [text for text in said if re.search(r"(?<![^\s(`])--[a-z]", text)] == []
    assert sum(" --db " in text for text in found) > 3  # those commands
