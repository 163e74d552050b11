"""Checks on the weights before anything is measured: the adapter is right, and ablating changes logits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor, nn

from selfrepair.ingest.conventions import EFFECTS, Precision
from selfrepair.ingest.engine.ablation import HeadAblation, Replacements, ablate
from selfrepair.ingest.engine.attention_calls import captured_input, kept_logits, record_calls
from selfrepair.ingest.engine.clean_kv import check_clean_kv
from selfrepair.ingest.engine.forward import clean_batch, clean_layers, embed, value_biases
from selfrepair.ingest.engine.layers import apply_mlp
from selfrepair.ingest.engine.memory import is_out_of_memory
from selfrepair.ingest.engine.projection import project
from selfrepair.ingest.engine.unembedding import (
    bent,
    final_scale,
    mean_unembedding,
    scaled,
    target_logit_directions,
)
from selfrepair.ingest.models.adapter import Block, ModelAdapter, not_finite, unsupported
from selfrepair.ingest.text.targets import next_token_targets

POSITIONS = 16
_LOGIT_CHANGE = EFFECTS.index("logit_change")


@torch.inference_mode()
def preflight(adapter: ModelAdapter, tokens: Int[Tensor, "batch seq"], precision: Precision, name: str) -> None:
    """Check the adapter against the model itself: on a few positions of two prompts, and on the whole of one where that is
    longer, since attention may have a window. `tokens` are the longest that will be measured.

    Raises SelfRepairError naming what does not add up: head outputs and bias to attention's output, neurons and bias to an
    MLP's, experts to a mixture's, what was read off a norm to what it does, layer outputs to the stream that enters the final
    norm, logit directions to the model's own logits, an ablation to what it does in the model's own forward, or an ablation
    that changes no logit.
    """
    try:
        _prove(adapter, tokens[:2, : POSITIONS + 1].to(adapter.device), precision, name)
        if tokens.shape[1] > POSITIONS + 1:
            _prove(adapter, tokens[:1].to(adapter.device), precision, name)
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise unsupported(name, f"its layers cannot be run one by one ({error})") from error


@torch.inference_mode()
def check_self_repression(
    adapter: ModelAdapter, tokens: Int[Tensor, "batch seq"], precision: Precision, name: str
) -> None:
    """Check on the longest prompts, since attention may have a window, that clean keys and values work in the model.

    Raises SelfRepairError where they do not.
    """
    inputs = tokens[:, :-1].to(adapter.device)
    check_clean_kv(adapter, record_calls(adapter, inputs.shape[1]), inputs, precision.preflight, name)


def _prove(adapter: ModelAdapter, tokens: Int[Tensor, "batch seq"], precision: Precision, name: str) -> None:
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    calls = record_calls(adapter, inputs.shape[1])
    final_input, logits, returned = _own_forward(adapter, inputs, n_logits := min(POSITIONS, inputs.shape[1]))
    if not bool(returned.isfinite().all()):
        raise not_finite(name, precision.name)

    def compare(found: Tensor, expected: Tensor, failure: str, size: float | None = None) -> None:
        size = max(float(expected.abs().max()) if size is None else size, 1e-6)
        error = float(((found - expected).abs().max() / size).nan_to_num(float("inf")))
        if error > precision.preflight:
            raise unsupported(
                name, f"{failure} (off by {error:.2g} of its size, {precision.preflight:g} allowed in {precision.name})"
            )

    stream, mean = embed(adapter, inputs), mean_unembedding(adapter)
    biases = value_biases(adapter, calls)
    own = calls.of_prompts(adapter, inputs)
    for number, layer in enumerate(clean_layers(adapter, stream, own)):
        stream = layer.stream
        weight = adapter.head_output_weight(number)
        heads = torch.einsum("bphe,hed->bpd", layer.z, weight)
        block = adapter.blocks[number]
        if block.output_projection is not None:
            compare(
                _with_bias(heads, block.output_projection),
                layer.attention_out,
                f"head outputs and bias do not add up to attention's output in layer {number}",
            )
        if block.mlp_output is not None:
            activations, out = _neurons(block, layer.branch.to(adapter.layer_dtype))
            made = _with_bias(activations @ adapter.neuron_output_weight(number), block.mlp_output)
            compare(made, out, f"neurons and bias do not add up to the MLP's output in layer {number}")
        if block.experts is not None:
            made, out = (
                apply_mlp(adapter, number, layer.branch, own, keep_routing=kept).added for kept in (True, False)
            )
            compare(made, out, f"experts do not add up to the MLP's output in layer {number}")
        for norm, shape in (
            (block.attention_post_norm, block.attention_post_shape),
            (block.mlp_post_norm, block.mlp_post_shape),
        ):
            if norm is not None and shape is not None:
                linear = shape.linear(layer.branch) / shape.scale(layer.branch)[..., None]
                branch = layer.branch.to(adapter.layer_dtype)
                normed = norm(branch) - norm(torch.zeros_like(branch))
                compare(linear, normed.to(linear.dtype), f"a norm of layer {number} is not what it was found to be")
    stream = stream.to(adapter.device)
    compare(
        stream, final_input.to(stream.dtype), "attention and MLP outputs do not add up to the final residual stream"
    )

    compare(bent(adapter, logits), returned.to(logits.dtype), "its logits are not what its unembedding makes")
    logit_directions = target_logit_directions(adapter, mean, targets)
    last = slice(-n_logits, None)
    centred = _of_targets(logits, targets[:, last])
    found = project(stream, logit_directions) / final_scale(adapter, stream) + _constant(adapter, targets)
    compare(
        found[:, last],
        centred.to(stream.dtype),
        "final norm and unembedding do not give the model's logits",
    )

    clean = clean_batch(adapter, calls, mean, next_token_targets(tokens))
    replacements = Replacements(biases, None, None)
    at = adapter.heads[0]
    (first,) = ablate(adapter, clean, replacements, [HeadAblation(*at, "zero")])
    with _without_head(adapter, *at, biases[at]):
        _, ablated_logits, _ = _own_forward(adapter, inputs, n_logits)
    expected = _of_targets(ablated_logits, targets[:, last])
    # Of single positions, rounding may choose other experts: what half of them say counts.
    error = (centred + first[:, last, _LOGIT_CHANGE] - expected).abs().median()
    compare(
        error,
        torch.zeros_like(error),
        f"ablating L{at[0]}H{at[1]} does not do what it does in the model's own forward",
        size=float(expected.abs().max()),
    )
    last_layer = adapter.heads[-1][0]
    stack = [HeadAblation(last_layer, head, "zero") for head in range(adapter.blocks[last_layer].n_heads)]
    effects = ablate(adapter, clean, replacements, stack)
    if not bool((effects[..., _LOGIT_CHANGE] != 0).any()):
        raise unsupported(name, "ablating a head of the last layer changes no logit")


def _with_bias(made: Tensor, projection: nn.Module) -> Tensor:
    bias = getattr(projection, "bias", None)
    return made if bias is None else made + bias


def _neurons(block: Block, stream: Tensor) -> tuple[Tensor, Tensor]:
    """The activations of an MLP's neurons on a stream, and what its last projection makes of them."""
    with captured_input(block.mlp_output) as inputs:
        out = block.mlp(block.ln2(stream))
    return inputs[0].view(*out.shape[:-1], -1), out


def _of_targets(logits: Tensor, targets: Tensor) -> Tensor:
    """The targets' logits, relative to the mean over the vocabulary."""
    return (logits - logits.mean(dim=-1, keepdim=True)).gather(-1, targets[..., None])[..., 0]


@contextmanager
def _without_head(adapter: ModelAdapter, layer: int, head: int, value_bias: Tensor) -> Iterator[None]:
    """Within it a head's z is its value bias in the model's own forwards."""
    projection, d_head = adapter.blocks[layer].output_projection, adapter.blocks[layer].d_head
    assert projection is not None, "a layer with heads"

    def ablate_z(_: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        z = arguments[0].clone()
        z[..., head * d_head : (head + 1) * d_head] = value_bias[:d_head].to(z)
        return z, *arguments[1:]

    handle = projection.register_forward_pre_hook(ablate_z)
    try:
        yield
    finally:
        handle.remove()


def _own_forward(adapter: ModelAdapter, inputs: Tensor, n_logits: int) -> tuple[Tensor, Tensor, Tensor]:
    """The input of the final norm in the model's own forward, and its logits at the last `n_logits` positions: before a
    soft-cap, and as it returns them.
    """
    seen: list[tuple[Tensor, Tensor]] = []
    handle = adapter.final_norm.register_forward_hook(
        lambda _, arguments, out: seen.append((arguments[0].clone(), out.clone()))
    )
    try:
        logits: Tensor = adapter.model(
            input_ids=inputs, use_cache=False, logits_to_keep=kept_logits(adapter, n_logits)
        ).logits
    finally:
        handle.remove()
    stream, normed = seen[-1]  # a norm without weights may be used before the layers, too
    made = scaled(adapter, adapter.unembedding(normed[:, -n_logits:]))
    return stream, made, logits[:, -n_logits:]


def _constant(adapter: ModelAdapter, targets: Tensor) -> Tensor:
    """The part of a target's logit that no head can change: the biases of the final norm and of the unembedding."""
    weight = adapter.unembedding.weight
    constants = torch.zeros(adapter.d_vocab, dtype=adapter.stream_dtype, device=adapter.device)
    norm_bias = getattr(adapter.final_norm, "bias", None)
    if norm_bias is not None:
        constants += (weight @ norm_bias).to(constants.dtype)
    if adapter.unembedding.bias is not None:
        constants += adapter.unembedding.bias.to(constants.dtype)
    constants *= adapter.logit_scale
    return (constants - constants.mean())[targets]
