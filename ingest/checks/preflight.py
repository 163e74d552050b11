"""Before anything is measured: prove on the weights that the atlas is right and that ablating does something, and that
the cross-check at the end will run.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from selfrepair.ingest.checks.bridge_trial import try_bridge
from selfrepair.ingest.conventions import Precision
from selfrepair.ingest.engine.ablation import Cell, Replacements, ablate
from selfrepair.ingest.engine.clean import clean_batch, read_along
from selfrepair.ingest.engine.clean_kv import check_pinning
from selfrepair.ingest.engine.forward import clean_layers, embed, record_calls, value_biases
from selfrepair.ingest.engine.unembedding import final_scale, mean_unembedding, target_directions
from selfrepair.ingest.models.adapter import Atlas, unsupported
from selfrepair.ingest.runs.measurer import out_of_memory
from selfrepair.ingest.text.targets import next_tokens
from selfrepair.warehouse.errors import SelfRepairError

POSITIONS = 16


@torch.inference_mode()
def preflight(atlas: Atlas, tokens: Int[Tensor, "batch seq"], precision: Precision, name: str) -> None:
    """Check the atlas against the model itself on a few tokens.

    Raises SelfRepairError saying what does not add up: head outputs and bias to attention's output, layer outputs to
    the stream that enters the final norm, the target directions to the model's own logits, or an ablation that
    leaves every logit as it was; or when TransformerBridge cannot run such a model, so that no run of it could be
    cross-checked.
    """
    try:
        _prove(atlas, tokens[:2, : POSITIONS + 1].to(atlas.device), precision, name)
    except (TypeError, AttributeError, ValueError, LookupError, RuntimeError) as error:
        if out_of_memory(error):
            raise
        raise unsupported(name, f"its layers cannot be run one by one ({error})") from error
    try_bridge(atlas, name)


@torch.inference_mode()
def check_self_repression(atlas: Atlas, tokens: Int[Tensor, "batch seq"], precision: Precision, name: str) -> None:
    """Check that the model can be run with one position changed at a time, on prompts as long as the longest: attention may
    have a window. Raises SelfRepairError where it cannot.
    """
    inputs = tokens[:, :-1].to(atlas.device)
    check_pinning(atlas, record_calls(atlas, inputs.shape[1]), inputs, precision.preflight, name)


def _prove(atlas: Atlas, tokens: Int[Tensor, "batch seq"], precision: Precision, name: str) -> None:
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    calls = record_calls(atlas, inputs.shape[1])
    final_input, logits = _own_forward(atlas, inputs)
    if not bool(logits.isfinite().all()):
        raise SelfRepairError(
            f"model '{name}' answers NaN or infinity to the first prompts in {precision.name}. "
            "Try --dtype float32, and check the model's weights."
        )

    def compare(found: Tensor, wanted: Tensor, what: str) -> None:
        size = wanted.abs().max().clamp_min(1e-6)
        error = float(((found - wanted).abs().max() / size).nan_to_num(float("inf")))
        if error > precision.preflight:
            raise unsupported(
                name, f"{what} (off by {error:.2g} of its size, {precision.preflight:g} allowed in {precision.name})"
            )

    stream = embed(atlas, inputs)
    biases = value_biases(atlas, calls)
    for number, layer in enumerate(clean_layers(atlas, stream, calls)):
        weight = atlas.head_output_weight(number)
        heads = torch.einsum("bphe,hed->bpd", layer.z, weight)
        own_bias = getattr(atlas.blocks[number].output_projection, "bias", None)
        compare(
            heads if own_bias is None else heads + own_bias,
            layer.attention,
            f"head outputs and bias do not add up to attention's output in layer {number}",
        )
    compare(
        stream, final_input.to(stream.dtype), "attention and MLP outputs do not add up to the final residual stream"
    )

    directions = target_directions(atlas, mean_unembedding(atlas), targets)
    centred = (logits - logits.mean(dim=-1, keepdim=True)).gather(-1, targets[..., None])[..., 0]
    constant = _constant(atlas, targets)
    compare(
        read_along(stream, directions) / final_scale(atlas, stream) + constant,
        centred.to(stream.dtype),
        "final norm and unembedding do not give the model's logits",
    )

    clean = clean_batch(atlas, calls, mean_unembedding(atlas), next_tokens(tokens))
    cells = [Cell(atlas.n_layers - 1, head, "zero") for head in range(atlas.n_heads)]
    effects = ablate(atlas, calls, clean, Replacements(biases, None, None), cells)
    if not bool((effects[..., 2] != 0).any()):
        raise unsupported(name, "ablating a head of the last layer changes no logit")


def _own_forward(atlas: Atlas, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """What the model itself feeds its final norm, and its logits."""
    seen: list[Tensor] = []
    handle = atlas.final_norm.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    try:
        logits: Tensor = atlas.model(input_ids=inputs, use_cache=False).logits
    finally:
        handle.remove()
    return seen[0], logits


def _constant(atlas: Atlas, targets: Tensor) -> Tensor:
    """The part of a target's logit that no head can change: the biases of the final norm and of the unembedding."""
    weight = atlas.unembedding.weight
    constants = torch.zeros(atlas.d_vocab, dtype=atlas.stream_dtype, device=atlas.device)
    norm_bias = getattr(atlas.final_norm, "bias", None)
    if norm_bias is not None:
        constants += (weight @ norm_bias).to(constants.dtype)
    if atlas.unembedding.bias is not None:
        constants += atlas.unembedding.bias.to(constants.dtype)
    return (constants - constants.mean())[targets]
