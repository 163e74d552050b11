"""Every causal language model of transformers is measured right or refused for a true reason; a broken one is refused."""

import re
from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from selfrepair.ingest.models.families import EXAMPLES, NOT_BUILT, families
from selfrepair.warehouse.errors import SelfRepairError
from support import sweep
from support.tiers import only

TABLE = {family.name: family for family in families()}
MEASURED = [name for name, family in TABLE.items() if not family.reason]
REFUSED = [name for name, family in TABLE.items() if family.reason]
QUICK = ("gemma2", "gemma4_text", "gpt_oss", "nemotron_h", "qwen3_next")

WITHOUT_SOFTMAX = {"falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"}
"""Recurrent models, by their papers."""

MORE_PARTS = re.compile(r"^(?P<block>\S+) has more parts than attention and an MLP \((?P<parts>.*)\)$")


def test_the_table_has_every_architecture_that_can_be_built():
    assert list(TABLE) == sweep.CASES
    assert set(TABLE) | set(NOT_BUILT) >= set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert set(EXAMPLES) <= set(TABLE)


@pytest.fixture(scope="module", params=only(QUICK, MEASURED))
def case(request):
    return request.param


@pytest.fixture(scope="module")
def adapter(case):
    with sweep.WithoutFloat32():
        return sweep.adapted(sweep.build(case))


@pytest.fixture(scope="module")
def expected(adapter):
    with sweep.WithoutFloat32():
        return sweep.expected(adapter)


def test_every_row_equals_the_reference(case, adapter, expected):
    assert sweep.family(case, adapter.model, adapter, None) == TABLE[case]
    with sweep.WithoutFloat32():
        found = sweep.measured(adapter)
    assert (found[..., 2] != 0).any()
    is_exact = case not in sweep.FLOAT32_ONLY
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8 if is_exact else 2e-4)


def scaled(module: nn.Module, factor: float = 1.1) -> Callable[[], None]:
    """Have a module give more than it makes."""

    def more(_: nn.Module, __: object, out):
        return (factor * out[0], *out[1:]) if isinstance(out, tuple) else factor * out

    return module.register_forward_hook(more).remove


def output_projection(adapter) -> Callable[[], None]:
    return scaled(adapter.blocks[adapter.heads[0][0]].output_projection)


def attention(adapter) -> Callable[[], None]:
    return scaled(adapter.blocks[adapter.heads[-1][0]].attention)


def second_residual_path(adapter) -> Callable[[], None]:
    first, last = adapter.blocks[0].module, adapter.blocks[-1].module
    stream: list[torch.Tensor] = []

    def keep(_, arguments, keywords):
        stream[:] = [arguments[0] if arguments else keywords["hidden_states"]]

    def add(_, __, out):
        return (out[0] + 0.1 * stream[0], *out[1:]) if isinstance(out, tuple) else out + 0.1 * stream[0]

    with ExitStack() as hooks:
        hooks.callback(first.register_forward_pre_hook(keep, with_kwargs=True).remove)
        hooks.callback(last.register_forward_hook(add).remove)
        return hooks.pop_all().close


def final_norm(adapter) -> Callable[[], None]:
    return adapter.final_norm.register_forward_hook(lambda _, __, out: out + 0.1 * out.roll(1, dims=-1)).remove


def logits(adapter) -> Callable[[], None]:
    def more(_, __, out):
        out.logits = 1.1 * out.logits
        return out

    return adapter.model.register_forward_hook(more).remove


def post_norm(adapter) -> Callable[[], None] | None:
    found = [block.attention_post_norm or block.mlp_post_norm for block in adapter.blocks]
    return next((scaled(norm) for norm in found if norm is not None), None)


def mlp_output(adapter) -> Callable[[], None] | None:
    return next((scaled(block.mlp_output) for block in adapter.blocks if block.mlp_output is not None), None)


def stream_gain(adapter) -> Callable[[], None] | None:
    """What a layer multiplies the stream by: a number of its own, or one of its depth."""
    if not adapter.multiplies_stream:
        return None
    block = next(block for block in adapter.blocks if block.reach is not adapter.blocks[-1].reach).module
    own = [*block.parameters(recurse=False), *block.buffers(recurse=False)]
    if not own:
        return scaled(block)
    for tensor in own:
        tensor.data.mul_(1.1)
    return lambda: [tensor.data.div_(1.1) for tensor in own]


def path_beside_the_stream(adapter) -> Callable[[], None]:
    """From attention to the last MLP: the clean forward is the same when it is run layer by layer, an ablated one is not."""
    first, last = adapter.blocks[adapter.heads[0][0]].output_projection, adapter.blocks[-1].ln2
    made: list[torch.Tensor] = [torch.zeros(())]

    def keep(_, __, out):
        made[:] = [out[:1].clone()]

    with ExitStack() as hooks:
        hooks.callback(first.register_forward_hook(keep).remove)
        hooks.callback(last.register_forward_hook(lambda _, __, out: out + made[0]).remove)
        return hooks.pop_all().close


BROKEN = (
    output_projection,
    attention,
    second_residual_path,
    path_beside_the_stream,
    final_norm,
    logits,
    post_norm,
    mlp_output,
    stream_gain,
)


def refusal(adapter) -> str:
    """The error of the preflight; empty where it passes."""
    try:
        sweep.prove(adapter)
    except SelfRepairError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("n_ways", [2, pytest.param(len(BROKEN), marks=pytest.mark.exhaustive)])
def test_a_model_that_is_broken_behind_the_adapters_back_is_refused(case, adapter, n_ways):
    """In two ways, other ones from model to model; in every way in the exhaustive tests."""
    first = MEASURED.index(case) % len(BROKEN)
    with sweep.WithoutFloat32():
        for broken in [*BROKEN[first:], *BROKEN[:first]]:
            mend = broken(adapter)
            if mend is None:
                continue
            reason = refusal(adapter)
            mend()
            assert "model 'small' cannot be measured" in reason, broken.__name__
            n_ways -= 1
            if not n_ways:
                break
        sweep.prove(adapter)


@pytest.mark.slow
@pytest.mark.parametrize("is_third", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_stored_rows_are_right_in_float32(case, adapter, expected, is_third):
    """Of every third model, and of the others in the exhaustive tests."""
    if (MEASURED.index(case) % 3 == 0) != is_third:
        return
    if case in sweep.FLOAT32_ONLY or TABLE[case].experts:
        return  # which experts are chosen may hang on the last digit
    adapter_32 = sweep.adapted(sweep.build(case).float())
    found = sweep.measured(adapter_32)
    torch.testing.assert_close((found.double() * 1e4).round() / 1e4, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", only(("bert", "mamba"), REFUSED))
def test_what_is_refused_is_refused_for_the_reason_in_the_table(name):
    assert sweep.row_of(name) == TABLE[name]
    assert TABLE[name].reason.startswith("none of its layers has softmax attention") == (name in WITHOUT_SOFTMAX)
    if "normalises the residual stream itself" in TABLE[name].reason:
        assert stream_is_normed(name)
    if found := MORE_PARTS.search(TABLE[name].reason):
        model = sweep.build(name)
        for part in found["parts"].split(", "):
            model.get_submodule(f"{found['block']}.{part}")


def stream_is_normed(name: str) -> bool:
    """Whether the stream after the first layer, without some norm's bias and gain, has a mean of 0 and a variance of 1."""
    model = sweep.build(name)
    with torch.no_grad():
        out = model(input_ids=sweep.prompts(), output_hidden_states=True, use_cache=False)
    stream = (out.hidden_states or out.decoder_hidden_states)[1]
    norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
    standard = [(stream - norm.bias) / norm.weight for norm in norms if len(norm.weight) == stream.shape[-1]]
    return any(
        bool((x.mean(dim=-1).abs() < 1e-6).all() and ((x.var(dim=-1, correction=0) - 1).abs() < 1e-3).all())
        for x in standard
    )
