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
    rms: bool


GPT = ("transformer.h", "attn", "attn.c_proj", "mlp", "mlp.c_proj", "transformer.ln_f")
LLAMA = ("model.layers", "self_attn", "self_attn.o_proj", "mlp", "mlp.down_proj", "model.norm")
BLOOM = (
    *("transformer.h", "self_attention", "self_attention.dense"),
    *("mlp", "mlp.dense_4h_to_h", "transformer.ln_f"),
)
NAMES = {
    "gpt2": GPT,
    "gpt_neo": ("transformer.h", "attn", "attn.attention.out_proj", "mlp", "mlp.c_proj", "transformer.ln_f"),
    "gptj": ("transformer.h", "attn", "attn.out_proj", "mlp", "mlp.fc_out", "transformer.ln_f"),
    "gpt_neox": (
        *("gpt_neox.layers", "attention", "attention.dense"),
        *("mlp", "mlp.dense_4h_to_h", "gpt_neox.final_layer_norm"),
    ),
    "opt": (
        *("model.decoder.layers", "self_attn", "self_attn.out_proj"),
        *("fc2", "fc2", "model.decoder.final_layer_norm"),
    ),
    "bloom": BLOOM,
    "falcon": BLOOM,
    "phi": ("model.layers", "self_attn", "self_attn.dense", "mlp", "mlp.fc2", "model.final_layernorm"),
    "starcoder2": ("model.layers", "self_attn", "self_attn.o_proj", "mlp", "mlp.c_proj", "model.norm"),
}
"""Of each kind of model: its blocks; in each, attention, its output projection, the MLP and its; and the final norm."""

LAYERNORM = {"gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "falcon", "phi", "starcoder2", "stablelm"}
ADDS_STREAM = {"bloom"}
"""Kinds whose attention and MLP return the stream with what they add."""

FIRST_NORM = {"gpt2": "ln_1", "gpt_neo": "ln_1", "gptj": "ln_1", "opt": "self_attn_layer_norm"}


def parts_of(model: Any) -> Parts:
    kind = model.config.model_type
    blocks, attention, projection, mlp, mlp_output, norm = NAMES.get(kind, LLAMA)
    return Parts(
        blocks=list(model.get_submodule(blocks)),
        attention=attention,
        projection=projection,
        mlp=mlp,
        mlp_output=mlp_output,
        norm=model.get_submodule(norm),
        rms=kind not in LAYERNORM,
    )


def head_size(model: Any) -> int:
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def values_of(model: Any, layer: int, head: int) -> tuple[Tensor, Tensor | int]:
    """W_V [d_model, d_head] and b_V of a query head."""
    config, block, d_head = model.config, parts_of(model).blocks[layer], head_size(model)
    n_heads = config.num_attention_heads

    def slice_of(number: int) -> slice:
        return slice(number * d_head, (number + 1) * d_head)

    match config.model_type:
        case "gpt2":
            joint = block.attn.c_attn
            return joint.weight[:, slice_of(2 * n_heads + head)], joint.bias[slice_of(2 * n_heads + head)]
        case "gpt_neox" | "bloom":
            joint = (
                block.attention.query_key_value if hasattr(block, "attention") else block.self_attention.query_key_value
            )
            own = slice_of(3 * head + 2)
        case "falcon":  # with multi_query all heads share the last slice
            joint = block.self_attention.query_key_value
            own = slice_of(n_heads + 1 if config.multi_query else 3 * head + 2)
        case "phi3":
            joint = block.self_attn.qkv_proj
            n_groups = config.num_key_value_heads
            own = slice_of(n_heads + n_groups + head // (n_heads // n_groups))
        case kind:
            attention = block.attn.attention if kind == "gpt_neo" else block.get_submodule(parts_of(model).attention)
            joint = attention.v_proj
            own = slice_of(head // (n_heads // getattr(config, "num_key_value_heads", n_heads)))
    return joint.weight[own].T, 0 if joint.bias is None else joint.bias[own]


def value_bias(model: Any, layer: int, head: int) -> Tensor:
    """The constant part of one head's z: b_V + norm bias @ W_V."""
    weight, bias = values_of(model, layer, head)
    norm = parts_of(model).blocks[layer].get_submodule(FIRST_NORM.get(model.config.model_type, "input_layernorm"))
    norm_bias = getattr(norm, "bias", None)
    return bias + (torch.zeros(len(weight)).double() if norm_bias is None else norm_bias) @ weight


def head_weight(model: Any, layer: int, head: int) -> Tensor:
    """W_O of one head, [d_head, d_model]."""
    d_head = head_size(model)
    projection = parts_of(model).blocks[layer].get_submodule(parts_of(model).projection)
    weight = projection.weight if model.config.model_type == "gpt2" else projection.weight.T
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
    d_head = head_size(model)

    def added_stream(arguments: tuple[Any, ...]) -> Any:
        """What an attention or MLP module puts into its output beside its own: its second argument, or nothing."""
        return arguments[1][0] if model.config.model_type in ADDS_STREAM else 0

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
                lambda _, arguments, out: run.attention.append(out[0][0] - added_stream(arguments))
            )
        )
        handles.append(
            block.get_submodule(parts.mlp).register_forward_hook(
                lambda _, arguments, out: run.mlp.append(out.reshape(len(tokens), -1) - added_stream(arguments))
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


def gain(model: Any) -> Tensor:
    """What the final norm multiplies with."""
    weight = parts_of(model).norm.weight
    return weight + 1 if model.config.model_type == "gemma" else weight


def logits(model: Any, x: Tensor) -> Tensor:
    """What the residual stream x [pos, d_model] predicts.

    The model's own RMSNorm rounds to float32 even in a float64 model; the final one is written out here.
    """
    parts, unembedding = parts_of(model), model.get_output_embeddings()
    centred = x if parts.rms else x - x.mean(-1, keepdim=True)
    normed = centred / scale(model, x)[:, None] * gain(model)
    logits = (normed if parts.rms else normed + parts.norm.bias) @ unembedding.weight.T
    return logits if unembedding.bias is None else logits + unembedding.bias


def scale(model: Any, x: Tensor) -> Tensor:
    parts = parts_of(model)
    eps = parts.norm.variance_epsilon if hasattr(parts.norm, "variance_epsilon") else parts.norm.eps
    if not parts.rms:
        x = x - x.mean(-1, keepdim=True)
    return (x.pow(2).mean(-1) + eps).sqrt()


def direction(model: Any, token: int) -> Tensor:
    unembedding = model.get_output_embeddings().weight
    w = gain(model) * (unembedding[token] - unembedding.mean(0))
    return w if parts_of(model).rms else w - w.mean()


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
            "repair_post_norm": torch.zeros(n - 1, dtype=torch.float64),
            "ln_scale_ratio": s / s_ablated,
        }
        for name, values in effects.items():
            columns.setdefault(name, []).append(values)
    return {name: torch.stack(values) for name, values in columns.items()}


def neuron_weight(model: Any, layer: int) -> Tensor:
    """W_out of one MLP, a row for each neuron [neuron, d_model]."""
    weight = parts_of(model).blocks[layer].get_submodule(parts_of(model).mlp_output).weight
    return weight if model.config.model_type == "gpt2" else weight.T
