"""The measurement done the slow, obvious way: one head, one prompt, one whole forward at a time, through hooks.

It shares no code with the engine: weights are read by each family's own names, and the formulas are written out again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Parts:
    blocks: list[nn.Module]
    attention: str
    projection: str
    mlp: str
    mlp_output: str
    norm: nn.Module
    unembedding: nn.Module
    rms: bool


def parts_of(model: Any) -> Parts:
    kind = model.config.model_type
    if kind == "gpt2":
        return Parts(
            list(model.transformer.h),
            "attn",
            "attn.c_proj",
            "mlp",
            "mlp.c_proj",
            model.transformer.ln_f,
            model.lm_head,
            False,
        )
    if kind == "gpt_neox":
        norm = model.gpt_neox.final_layer_norm
        return Parts(
            list(model.gpt_neox.layers),
            "attention",
            "attention.dense",
            "mlp",
            "mlp.dense_4h_to_h",
            norm,
            model.get_output_embeddings(),
            False,
        )
    if kind == "opt":
        decoder = model.model.decoder
        return Parts(
            list(decoder.layers),
            "self_attn",
            "self_attn.out_proj",
            "fc2",
            "fc2",
            decoder.final_layer_norm,
            model.lm_head,
            False,
        )
    return Parts(
        list(model.model.layers),
        "self_attn",
        "self_attn.o_proj",
        "mlp",
        "mlp.down_proj",
        model.model.norm,
        model.lm_head,
        True,
    )


def value_bias(model: Any, layer: int, head: int) -> Tensor:
    """The constant part of one head's z: b_V + norm bias @ W_V."""
    config = model.config
    d_model, n_heads = config.hidden_size, config.num_attention_heads
    d_head = d_model // n_heads
    block = parts_of(model).blocks[layer]
    own = slice(head * d_head, (head + 1) * d_head)
    if config.model_type == "gpt2":
        weight, bias = block.attn.c_attn.weight[:, 2 * d_model :][:, own], block.attn.c_attn.bias[2 * d_model :][own]
        return bias + block.ln_1.bias @ weight
    if config.model_type == "gpt_neox":
        joint = block.attention.query_key_value
        weight = joint.weight.view(n_heads, 3, d_head, d_model)[head, 2].T
        return joint.bias.view(n_heads, 3, d_head)[head, 2] + block.input_layernorm.bias @ weight
    if config.model_type == "opt":
        values = block.self_attn.v_proj
        return values.bias[own] + block.self_attn_layer_norm.bias @ values.weight[own].T
    bias = block.self_attn.v_proj.bias
    group = n_heads // config.num_key_value_heads
    return torch.zeros(d_head).double() if bias is None else bias.view(-1, d_head)[head // group]


def head_weight(model: Any, layer: int, head: int) -> Tensor:
    """W_O of one head, [d_head, d_model]."""
    config = model.config
    d_head = config.hidden_size // config.num_attention_heads
    projection = parts_of(model).blocks[layer].get_submodule(parts_of(model).projection)
    weight = projection.weight if config.model_type == "gpt2" else projection.weight.T
    return weight[head * d_head : (head + 1) * d_head]


@dataclass
class Run:
    z: list[Tensor]
    attention: list[Tensor]
    mlp: list[Tensor]
    activations: list[Tensor]
    after: list[Tensor]
    final: Tensor
    logits: Tensor


def forward(
    model: Any,
    tokens: list[int],
    replace: Sequence[tuple[int, int, Tensor]] = (),
    add: tuple[int, int, Tensor] | None = None,
) -> Run:
    """One prompt through the model; each of `replace` is (layer, head, new z [pos, d_head]), `add` is (layer, pos, vector):
    what is added to the layer's input there.
    """
    parts = parts_of(model)
    run = Run([], [], [], [], [], torch.empty(0), torch.empty(0))
    handles = []
    d_head = model.config.hidden_size // model.config.num_attention_heads

    def watch_projection(layer: int) -> Any:
        def hook(_: nn.Module, arguments: tuple[Tensor]) -> tuple[Tensor]:
            z = arguments[0].clone()
            for at, head, new in replace:
                if at == layer:
                    z[0, :, head * d_head : (head + 1) * d_head] = new
            run.z.append(z[0].view(len(tokens), -1, d_head))
            return (z,)

        return hook

    def add_to_input(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        assert add is not None
        stream = (arguments[0] if arguments else keywords["hidden_states"]).clone()
        stream[0, add[1]] += add[2]
        return ((stream, *arguments[1:]), keywords) if arguments else ((), {**keywords, "hidden_states": stream})

    if add is not None:
        handles.append(parts.blocks[add[0]].register_forward_pre_hook(add_to_input, with_kwargs=True))
    for layer, block in enumerate(parts.blocks):
        handles.append(block.get_submodule(parts.projection).register_forward_pre_hook(watch_projection(layer)))
        handles.append(
            block.get_submodule(parts.attention).register_forward_hook(
                lambda _, __, out: run.attention.append(out[0][0])
            )
        )
        handles.append(
            block.get_submodule(parts.mlp).register_forward_hook(
                lambda _, __, out: run.mlp.append(out.reshape(len(tokens), -1))
            )
        )

        handles.append(
            block.get_submodule(parts.mlp_output).register_forward_pre_hook(
                lambda _, arguments: run.activations.append(arguments[0].reshape(len(tokens), -1))
            )
        )
        handles.append(
            block.register_forward_hook(
                lambda _, __, out: run.after.append(
                    (out[0] if isinstance(out, tuple) else out).reshape(len(tokens), -1)
                )
            )
        )

    def keep_final(_: nn.Module, arguments: tuple[Tensor]) -> None:
        run.final = arguments[0][0]

    handles.append(parts.norm.register_forward_pre_hook(keep_final))
    model(input_ids=torch.tensor([tokens]), use_cache=False)
    run.logits = logits(model, run.final)
    for handle in handles:
        handle.remove()
    return run


def logits(model: Any, x: Tensor) -> Tensor:
    """What the residual stream x [pos, d_model] predicts.

    The model's own RMSNorm rounds to float32 even in a float64 model; the final one is written out here.
    """
    parts = parts_of(model)
    centred = x if parts.rms else x - x.mean(-1, keepdim=True)
    normed = centred / scale(model, x)[:, None] * parts.norm.weight
    return (normed if parts.rms else normed + parts.norm.bias) @ parts.unembedding.weight.T


def scale(model: Any, x: Tensor) -> Tensor:
    parts = parts_of(model)
    eps = parts.norm.variance_epsilon if parts.rms else parts.norm.eps
    if not parts.rms:
        x = x - x.mean(-1, keepdim=True)
    return (x.pow(2).mean(-1) + eps).sqrt()


def direction(model: Any, token: int) -> Tensor:
    parts = parts_of(model)
    w = parts.norm.weight * (parts.unembedding.weight[token] - parts.unembedding.weight.mean(0))
    return w if parts.rms else w - w.mean()


@dataclass
class Pair:
    """One prompt, clean and with a head ablated; `directions` are those of the targets, `scale` the clean one."""

    prompt: list[int]
    clean: Run
    ablated: Run
    directions: Tensor
    scale: Tensor


def pairs(
    model: Any,
    prompts: list[list[int]],
    partners: list[int],
    layer: int,
    head: int,
    ablation: str,
    given: Sequence[tuple[int, int]] = (),
) -> list[Pair]:
    """Every prompt without and with the head ablated, the heads `given` ablated in both."""
    untouched = [forward(model, prompt) for prompt in prompts]

    def replacement(at: tuple[int, int], prompt: int) -> tuple[int, int, Tensor]:
        n = len(prompts[prompt])
        new = {
            "zero": value_bias(model, *at).expand(n, -1),
            "mean": torch.cat([run.z[at[0]][:, at[1]] for run in untouched]).mean(0).expand(n, -1),
            "resample": untouched[partners[prompt]].z[at[0]][:, at[1]],
        }
        return (*at, new[ablation])

    found = []
    for number, prompt in enumerate(prompts):
        gone = [replacement(at, number) for at in given]
        clean = forward(model, prompt, gone)
        ablated = forward(model, prompt, [*gone, replacement((layer, head), number)])
        w = torch.stack([direction(model, token) for token in prompt[1:]])
        found.append(Pair(prompt, clean, ablated, w, scale(model, clean.final)[:-1]))
    return found


def measure(
    model: Any,
    prompts: list[list[int]],
    partners: list[int],
    layer: int,
    head: int,
    ablation: str,
    given: Sequence[tuple[int, int]] = (),
) -> dict[str, Tensor]:
    """Every effect of one cell on every prompt, [prompt, pos], column by column."""
    columns: dict[str, list[Tensor]] = {}
    weight, bias = head_weight(model, layer, head), value_bias(model, layer, head)
    for pair in pairs(model, prompts, partners, layer, head, ablation, given):
        prompt, clean, ablated, n = pair.prompt, pair.clean, pair.ablated, len(pair.prompt)
        targets = prompt[1:]
        w = pair.directions
        s, s_ablated = pair.scale, scale(model, ablated.final)[:-1]
        centred = {id(run): run.logits - run.logits.mean(-1, keepdim=True) for run in (clean, ablated)}
        rows = torch.arange(n - 1)

        def read(vectors: Tensor, w: Tensor = w) -> Tensor:
            return (vectors[:-1] * w).sum(-1)

        effects = {
            "direct_effect": read((clean.z[layer][:, head] - bias) @ weight) / s,
            "ablated_direct_effect": read((ablated.z[layer][:, head] - bias) @ weight) / s,
            "logit_change": centred[id(ablated)][rows, targets] - centred[id(clean)][rows, targets],
            "repair_layernorm": read(ablated.final) * (1 / s_ablated - 1 / s),
            "repair_attention": sum(
                (read(ablated.attention[k] - clean.attention[k]) for k in range(layer + 1, len(clean.attention))),
                torch.zeros(n - 1, dtype=torch.float64),
            )
            / s,
            "repair_mlp": sum(
                (read(ablated.mlp[k] - clean.mlp[k]) for k in range(len(clean.mlp))),
                torch.zeros(n - 1, dtype=torch.float64),
            )
            / s,
            "ln_scale_ratio": s / s_ablated,
        }
        for name, values in effects.items():
            columns.setdefault(name, []).append(values)
    return {name: torch.stack(values) for name, values in columns.items()}


def neuron_weight(model: Any, layer: int) -> Tensor:
    """W_out of one MLP, a row for each neuron [neuron, d_model]."""
    weight = parts_of(model).blocks[layer].get_submodule(parts_of(model).mlp_output).weight
    return weight if model.config.model_type == "gpt2" else weight.T
