"""The cross-check's method, whole forwards of plain modules with hooks, gives what the formulas say."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GptOssConfig

from selfrepair.ingest.checks.reference import Norm, PlainForwards, eager_attention
from selfrepair.ingest.conventions import ABLATIONS, EFFECTS
from selfrepair.ingest.models.adapter import ModelAdapter, adapt
from selfrepair.ingest.text.targets import answer_targets, next_token_targets
from support import families, naive
from support.tiers import only

PARTNERS = [1, 2, 0]
POST_NORM = EFFECTS.index("repair_post_norm")


class WithoutFloat32(TorchFunctionMode):
    """While it is on, nothing is cast to float32: some families do so whatever the model's type."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.float or (function is torch.Tensor.to and arguments[1:] == (torch.float32,)):
            return arguments[0]
        keywords = {name: value for name, value in (keywords or {}).items() if value is not torch.float32}
        return function(*arguments, **keywords)


def prompts() -> torch.Tensor:
    return torch.randint(2, families.VOCABULARY, (3, 8), generator=torch.Generator().manual_seed(3))


def measured(adapter: ModelAdapter, ablation: str, heads, given=(), targets_of=next_token_targets) -> torch.Tensor:
    """Effects of the heads on every prompt [head, prompt, pos, effect]; all heads of a prompt in one forward."""
    with torch.no_grad(), WithoutFloat32(), eager_attention(adapter):
        forwards = PlainForwards(adapter)
        # Positions without a target, too: the mean is over all.
        untouched = [forwards.clean(next_token_targets(torch.cat([row, row[:1]])[None])) for row in prompts()]

        def new_values(head, prompt):
            if ablation == "resample":
                return untouched[PARTNERS[prompt]].head_values(head)[: prompts().shape[1] - 1]
            if ablation == "mean":
                return torch.stack([clean.head_values(head) for clean in untouched]).mean(dim=(0, 1))
            return forwards.value_biases[head]

        found = []
        for number, row in enumerate(prompts()):
            clean = forwards.clean(targets_of(row[None]), {head: new_values(head, number) for head in given})
            found.append(forwards.measure(clean, [(head, new_values(head, number)) for head in heads]))
        return torch.stack(found, dim=1)


def expected(model, ablation: str, head, given=()) -> torch.Tensor:
    with torch.no_grad(), WithoutFloat32():
        columns = naive.measure(model, prompts().tolist(), PARTNERS, *head, ablation, given)
    zeros = torch.zeros_like(columns["direct_effect"])
    return torch.stack([columns.get(name, zeros) for name in EFFECTS], dim=-1)


FAMILIES = families.CONFIGS | families.MORE_CONFIGS
QUICK = ("gpt2", "pythia", "llama-grouped", "llama-biases", "gemma")


@pytest.mark.parametrize("family", only(QUICK, FAMILIES))
def test_it_equals_the_naive_reference(family):
    model = families.build(family)
    adapter = adapt(model, family)
    heads = [(layer, (layer + 1) % adapter.n_heads) for layer in range(adapter.n_layers)]
    for ablation in ABLATIONS:
        found = measured(adapter, ablation, heads)
        for head, effects in zip(heads, found, strict=True):
            torch.testing.assert_close(effects, expected(model, ablation, head), rtol=0, atol=1e-8)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_heads_that_are_ablated_in_both_forwards(ablation):
    model, given = families.build("llama-biases"), [(0, 2), (1, 1)]
    found = measured(adapt(model, "llama"), ablation, [(0, 1), (1, 3)], given)
    for head, effects in zip([(0, 1), (1, 3)], found, strict=True):
        torch.testing.assert_close(effects, expected(model, ablation, head, given), rtol=0, atol=1e-8)


def test_an_answer_is_measured_at_the_last_position_against_its_foil():
    model, head = families.build("gpt2"), (1, 2)
    adapter = adapt(model, "gpt2")
    answers = prompts()[:, -1]
    foils = (answers + 5) % families.VOCABULARY

    def with_foil(row):
        number = int((prompts() == row).all(dim=1).nonzero()[0])
        return answer_targets(row, foils[number : number + 1])

    (found,) = measured(adapter, "resample", [head], targets_of=with_foil)
    plain = expected(model, "resample", head)[:, -1:]
    others = prompts().clone()
    others[:, -1] = foils
    with torch.no_grad():
        columns = naive.measure(model, others.tolist(), PARTNERS, *head, "resample")
    of_foil = torch.stack([columns.get(name, torch.zeros(3, 7)) for name in EFFECTS], dim=-1)[:, -1:]
    ratio = EFFECTS.index("ln_scale_ratio")
    wanted = plain - of_foil
    wanted[..., ratio] = plain[..., ratio]  # a ratio of scales has no target
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-8)


SMALL = {
    **{"num_hidden_layers": 3, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8},
    **{"intermediate_size": 40, "vocab_size": families.VOCABULARY, "max_position_embeddings": 32},
    **{"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
}
POST_NORMS = {
    "gemma2": Gemma2Config(**SMALL, attn_logit_softcapping=5.0, final_logit_softcapping=3.0, query_pre_attn_scalar=8),
    "gemma3": Gemma3TextConfig(**SMALL, query_pre_attn_scalar=8),
}


def gemma(name: str):
    """A random model with norms of what attention and MLP make, in float64."""
    generator = torch.Generator().manual_seed(7)
    model = AutoModelForCausalLM.from_config(POST_NORMS[name], attn_implementation="eager").eval().to(torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def written_out(model, head, partner_of) -> torch.Tensor:
    """Resample effects of one head behind a post-norm, formula by formula [prompt, pos, effect]."""
    layers, (layer, number), found = model.model.layers, head, []
    own = slice(8 * number, 8 * number + 8)

    def scale(norm, x):
        return (x.square().mean(-1) + norm.eps).sqrt()

    def forward(tokens, new=None):
        kept, handles = {"attention": [], "mlp": []}, []

        def values(_, arguments):
            z = arguments[0].clone()
            if new is not None:
                z[0, :, own] = new
            kept["z"] = z[0, :, own]
            return (z,)

        def at_own_layer(_, arguments):
            kept["attention_sum"] = arguments[0][0]

        handles.append(layers[layer].self_attn.o_proj.register_forward_pre_hook(values))
        handles.append(layers[layer].post_attention_layernorm.register_forward_pre_hook(at_own_layer))
        for one in layers:
            for name, norm in (
                ("attention", one.post_attention_layernorm),
                ("mlp", one.post_feedforward_layernorm),
            ):
                handles.append(norm.register_forward_hook(lambda _, __, out, name=name: kept[name].append(out[0])))
        handles.append(model.model.norm.register_forward_pre_hook(lambda _, inputs: kept.update(final=inputs[0][0])))
        model(input_ids=tokens[None], use_cache=False)
        for handle in handles:
            handle.remove()
        return kept

    gain, unembedding = 1 + model.model.norm.weight, model.lm_head.weight
    post = layers[layer].post_attention_layernorm
    weight = layers[layer].self_attn.o_proj.weight[:, own].T
    for prompt, tokens in enumerate(prompts()):
        replaced = forward(prompts()[partner_of[prompt]][:-1])["z"]
        clean, ablated = forward(tokens[:-1]), forward(tokens[:-1], replaced)
        w = gain * (unembedding[tokens[1:]] - unembedding.mean(0))
        s, s_ablated = scale(model.model.norm, clean["final"]), scale(model.model.norm, ablated["final"])

        def read(vectors, w=w):
            return (vectors * w).sum(-1)

        def share(z, clean=clean):
            frozen = scale(post, clean["attention_sum"])[:, None]
            return (1 + post.weight) * (z @ weight) / frozen

        direct, ablated_direct = read(share(clean["z"])) / s, read(share(ablated["z"])) / s
        change = {
            name: [read(b - a) / s for a, b in zip(clean[name], ablated[name], strict=True)]
            for name in ("attention", "mlp")
        }
        effects = {
            "direct_effect": direct,
            "ablated_direct_effect": ablated_direct,
            "logit_change": read(ablated["final"]) / s_ablated - read(clean["final"]) / s,
            "repair_layernorm": read(ablated["final"]) * (1 / s_ablated - 1 / s),
            "repair_attention": sum(change["attention"][layer + 1 :], torch.zeros(7, dtype=torch.float64)),
            "repair_mlp": sum(change["mlp"]),
            "repair_post_norm": change["attention"][layer] - (ablated_direct - direct),
            "ln_scale_ratio": s / s_ablated,
        }
        found.append(torch.stack([effects[name] for name in EFFECTS], dim=-1))
    return torch.stack(found)


@pytest.mark.parametrize("name", POST_NORMS)
def test_heads_behind_a_post_norm(name):
    model = gemma(name)
    adapter, heads = adapt(model, name), [(0, 1), (1, 3), (2, 0)]
    found = measured(adapter, "resample", heads)
    for head, effects in zip(heads, found, strict=True):
        with torch.no_grad(), WithoutFloat32():
            wanted = written_out(model, head, PARTNERS)
        torch.testing.assert_close(effects, wanted, rtol=0, atol=1e-8)
        column = dict(zip(EFFECTS, effects.unbind(-1), strict=True))
        repair = column["logit_change"] - (column["ablated_direct_effect"] - column["direct_effect"])
        parts = sum(values for effect, values in column.items() if effect.startswith("repair_"))
        torch.testing.assert_close(repair, parts, rtol=0, atol=1e-10)
        assert effects[..., POST_NORM].abs().max() > 1e-3


@pytest.mark.parametrize("width", [6, 7])
@pytest.mark.parametrize("kind", [torch.nn.LayerNorm, torch.nn.RMSNorm])
def test_a_norm_shows_its_parts(kind, width):
    generator = torch.Generator().manual_seed(1)
    norm = kind(width, eps=1e-5).double()
    x = torch.randn(5, width, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(width, generator=generator))
        found = Norm.of(norm, torch.zeros(width, dtype=torch.float64))
        scale = (x.var(-1, correction=0) if kind is torch.nn.LayerNorm else x.square().mean(-1)).add(1e-5).sqrt()
        torch.testing.assert_close(found.gain, norm.weight, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.scale(x, norm(x)), scale, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.frozen(x) / scale[:, None] + found.bias, norm(x), rtol=0, atol=1e-10)


def test_with_a_sink_no_part_of_z_is_constant():
    config = GptOssConfig(
        **{**SMALL, "num_local_experts": 4, "num_experts_per_tok": 2}, attention_bias=True, pad_token_id=0
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        assert not PlainForwards(adapt(model, "gpt-oss")).value_biases.any()
        for layer in model.model.layers:
            layer.self_attn.sinks.fill_(float("-inf"))
        assert PlainForwards(adapt(model, "gpt-oss")).value_biases.abs().max() > 0.1


def test_the_model_is_as_it_was_before():
    model = families.build("gpt2", torch.float32)
    model.set_attn_implementation("sdpa")
    with torch.no_grad(), eager_attention(adapt(model, "gpt2")):
        assert model.config._attn_implementation == "eager"
        PlainForwards(adapt(model, "gpt2")).clean(next_token_targets(prompts()[:1]))
    assert model.config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
