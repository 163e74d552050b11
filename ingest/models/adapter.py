"""Where a model keeps its blocks, attention, MLPs, final norm and unembedding, and what they do.

The parts are found by watching one forward (`structure`), so that a family needs no code here; `preflight` proves them on the
weights before anything is measured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from selfrepair.ingest.models.structure.additions import Addition, Factor, product
from selfrepair.ingest.models.structure.experts import RoutedExperts, routed_experts
from selfrepair.ingest.models.structure.mixing import Mixing
from selfrepair.ingest.models.structure.norms import NormShape, norm_shape
from selfrepair.ingest.models.structure.numbers import Numbers
from selfrepair.ingest.models.structure.parts import decoder_parts
from selfrepair.ingest.models.structure.roles import (
    Beside,
    BlockParts,
    Branch,
    HandingMLP,
    NotFiniteError,
    OtherShapeError,
    Projection,
    joined,
)
from selfrepair.warehouse.errors import SelfRepairError, with_dtype

SUPPORTED = "selfrepair models --supported"
"""The command that lists what can be measured; refusals end with it."""


@dataclass(frozen=True)
class Block:
    """One layer's native modules. Attention reads `ln1` of the residual stream, times `attention_factor`, the MLP `ln2` of it;
    what each makes is normalised by its post-norm, where there is one, and joins the stream as its addition says. A block
    without heads has no `output_projection`, and what mixes positions there is its `attention`. Others may do so `beside`
    attention, and a `branch` may read the stream after the MLP and add to it.

    Layers may multiply the stream: what is added to it reaches the final norm times `attention_reach` or `mlp_reach`, the
    products of the factors above, and the stream after the layer, with what the branch adds, times `reach`.

    `device` is that of its weights. `mlp_output` is the MLP's last projection, whose inputs are the neurons' activations; None
    where there is not just one. `experts` are its routed experts; None where it has none, or none that can be told apart.
    """

    module: nn.Module
    ln1: nn.Module
    attention: nn.Module
    output_projection: nn.Module | None
    attention_post_norm: nn.Module | None
    ln2: nn.Module
    mlp: Callable[[Tensor], Tensor]
    mlp_output: nn.Module | None
    experts: RoutedExperts | None
    mlp_post_norm: nn.Module | None
    attention_addition: Addition
    mlp_addition: Addition
    attention_post_shape: NormShape | None
    mlp_post_shape: NormShape | None
    value_bias_counts: bool
    n_heads: int
    d_head: int
    device: torch.device
    attention_factor: float = 1.0
    beside: tuple[Beside, ...] = ()
    branch: Branch | None = None
    hands_on: bool = False
    mixing: Mixing | None = None
    attention_reach: Factor = 1.0
    mlp_reach: Factor = 1.0
    reach: Factor = 1.0


@dataclass(frozen=True)
class ModelAdapter:
    """A model's parts by role. The model itself is not changed: no weight is folded, centred or copied.

    Logits are `logit_scale` times what the unembedding makes of the final norm's output; the model itself then bends them by
    `logit_softcap`, where it has one. `n_heads` and `d_head` are the largest of the layers': what holds a vector for every head
    has zeros behind the last of fewer heads and behind shorter vectors.

    The blocks may be spread over several devices. What is kept of a block in a forward stays on its device, and the residual
    stream moves where the next block is on another one; prompts, logit directions, the final norm and its scale, logits and
    effects are on `device`, that of the unembedding. Layers compute in `layer_dtype`, in which weights may not be stored.
    """

    model: PreTrainedModel
    architecture: str
    blocks: tuple[Block, ...]
    parallel_blocks: bool
    final_norm: nn.Module
    final_shape: NormShape
    unembedding: nn.Linear
    layer_dtype: torch.dtype
    device: torch.device
    logit_scale: float
    logit_softcap: float | None
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    d_vocab: int
    context: int | None

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def norm(self) -> str:
        """Kind of the final norm, as in `models.norm`."""
        return self.final_shape.kind

    @property
    def has_post_norms(self) -> bool:
        """Whether what attention makes is normalised before it is added to the stream."""
        return any(block.attention_post_norm is not None for block in self.blocks)

    @property
    def multiplies_stream(self) -> bool:
        """Whether layers multiply the residual stream."""
        return any(
            addition.multiplies_stream
            for block in self.blocks
            for addition in (
                block.attention_addition,
                block.mlp_addition,
                *([] if block.branch is None else [block.branch.addition]),
            )
        )

    @property
    def shares_keys(self) -> bool:
        """Whether attention of some layers reads keys and values that another layer made."""
        return bool(getattr(self.model.config.get_text_config(), "num_kv_shared_layers", 0))

    @property
    def heads(self) -> list[tuple[int, int]]:
        """Layer and number of every head that can be ablated."""
        return [
            (layer, head)
            for layer, block in enumerate(self.blocks)
            if block.output_projection is not None
            for head in range(block.n_heads)
        ]

    @property
    def devices(self) -> list[torch.device]:
        """The devices of all layers, in order, and of the unembedding."""
        return list(dict.fromkeys([*(block.device for block in self.blocks), self.device]))

    @property
    def device_names(self) -> str:
        """The devices as `--device` takes them."""
        return "+".join(map(str, self.devices))

    @property
    def stream_dtype(self) -> torch.dtype:
        """What the residual stream and the effects are kept in: float32, or float64 for a float64 model."""
        return torch.promote_types(self.layer_dtype, torch.float32)

    def head_output_weight(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of one layer, a slice per query head; zeros where the layer has no heads."""
        projection = self.blocks[layer].output_projection
        if projection is None:
            zero = torch.zeros((), dtype=self.layer_dtype, device=self.blocks[layer].device)
            return zero.expand(self.n_heads, self.d_head, self.d_model)
        weight: Tensor = projection.weight  # type: ignore[assignment]
        rows = weight if isinstance(projection, Conv1D) else weight.T
        by_head: Tensor = rows.unflatten(0, (self.blocks[layer].n_heads, -1))
        return by_head

    def neuron_output_weight(self, layer: int) -> Float[Tensor, "neuron d_model"]:
        """W_out of one layer's MLP, a row per neuron."""
        projection = self.blocks[layer].mlp_output
        assert projection is not None, "Mechanisms.neuron_layers lets no such layer through"
        weight: Tensor = projection.weight  # type: ignore[assignment]
        return weight if isinstance(projection, Conv1D) else weight.T


def adapt(model: PreTrainedModel, name: str) -> ModelAdapter:
    """The adapter of `model`.

    Raises SelfRepairError for a model of a shape that the measurement does not cover, saying what stands in the way.
    """
    if model.config.is_encoder_decoder:
        raise unsupported(name, "it is an encoder-decoder; self-repair is defined here for decoder-only models")
    try:
        return _adapt(model)
    except NotFiniteError as error:
        raise not_finite(name, str(model.dtype).removeprefix("torch.")) from error
    except OtherShapeError as error:
        raise unsupported(name, str(error)) from error


def unsupported(name: str, reason: str) -> SelfRepairError:
    """The refusal of a model, with the reason and what can be measured instead."""
    return SelfRepairError(f"model '{name}' cannot be measured: {reason}. Supported models: {SUPPORTED}")


def not_finite(name: str, precision: str) -> SelfRepairError:
    """The refusal of a model whose own logits are no numbers."""
    return SelfRepairError(
        f"model '{name}' has logits of NaN or infinity on the first prompts in {precision}. "
        f"Try {with_dtype('float32')}, and check the model's weights."
    )


@torch.no_grad()
def _adapt(model: PreTrainedModel) -> ModelAdapter:
    parts = decoder_parts(model)
    config = model.config.get_text_config()
    unembedding, first = parts.unembedding, parts.blocks[0]
    with_heads = next(block for block in parts.blocks if block.output_projection is not None)
    assert with_heads.output_projection is not None
    by_layer = [_n_heads(config, layer) for layer in range(len(parts.blocks))]
    n_heads, d_head = max(by_layer), 0
    for block, of_layer in zip(parts.blocks, by_layer, strict=True):
        if block.output_projection is not None:
            width = _n_inputs(block.output_projection)
            if width % of_layer:
                raise OtherShapeError(f"{of_layer} heads of a layer do not share its z of {width} numbers equally")
            d_head = max(d_head, width // of_layer)
    if len({block.is_parallel for block in parts.blocks}) > 1:
        raise OtherShapeError("some of its blocks are parallel and some are sequential")
    d_model, dtype, device = unembedding.in_features, unembedding.weight.dtype, unembedding.weight.device

    def shape_of(module: nn.Module | None, its_device: torch.device) -> NormShape | None:
        if module is None:
            return None
        shape = norm_shape(module, d_model, dtype, its_device)
        if shape is None:
            raise OtherShapeError(f"its {type(module).__name__} is neither a LayerNorm nor an RMSNorm")
        return shape

    def experts_of(block: nn.Module, mlp: Callable[[Tensor], Tensor]) -> RoutedExperts | None:
        return routed_experts(block, mlp, unembedding.weight[0].to(_device_of(block)), numbers)

    numbers = Numbers(model)
    final_shape = shape_of(parts.final_norm, device)
    assert final_shape is not None, "every decoder has a final norm, or was refused"
    return ModelAdapter(
        model=model,
        architecture=_architecture(model),
        blocks=_with_reaches(
            [
                _block(
                    block,
                    shape_of(block.attention_post_norm, _device_of(block.module)),
                    shape_of(block.mlp_post_norm, _device_of(block.module)),
                    experts_of,
                    n_heads if block.output_projection is None else of_layer,
                    d_head,
                )
                for block, of_layer in zip(parts.blocks, by_layer, strict=True)
            ]
        ),
        parallel_blocks=first.is_parallel,
        final_norm=parts.final_norm,
        final_shape=final_shape,
        unembedding=unembedding,
        layer_dtype=dtype,
        device=device,
        logit_scale=parts.logit_scale,
        logit_softcap=parts.logit_softcap,
        n_heads=n_heads,
        n_kv_heads=_n_kv_heads(with_heads.attention, n_heads, _n_inputs(with_heads.output_projection) // n_heads),
        d_head=d_head,
        d_model=d_model,
        d_mlp=_d_mlp(parts.blocks, config, d_model),
        d_vocab=unembedding.out_features,
        context=_first_number(config, ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")),
    )


def _block(
    parts: BlockParts,
    attention_shape: NormShape | None,
    mlp_shape: NormShape | None,
    experts_of: Callable[[nn.Module, Callable[[Tensor], Tensor]], RoutedExperts | None],
    n_heads: int,
    d_head: int,
) -> Block:
    mlp = HandingMLP(*parts.mlp) if parts.hands_on else joined(parts.mlp, is_chain=parts.is_chain)
    return Block(
        module=parts.module,
        ln1=parts.ln1 or nn.Identity(),
        attention=parts.attention,
        output_projection=parts.output_projection,
        attention_post_norm=parts.attention_post_norm,
        ln2=parts.ln2 or nn.Identity(),
        mlp=mlp,
        mlp_output=parts.mlp_output,
        experts=experts_of(parts.module, mlp.alone if isinstance(mlp, HandingMLP) else mlp)
        if parts.mlp_output is None
        else None,
        mlp_post_norm=parts.mlp_post_norm,
        attention_addition=parts.attention_addition,
        mlp_addition=parts.mlp_addition,
        attention_post_shape=attention_shape,
        mlp_post_shape=mlp_shape,
        # With sinks attention weights do not add up to one, and no part of z is constant.
        value_bias_counts=not hasattr(parts.attention, "sinks"),
        n_heads=n_heads,
        d_head=d_head if parts.output_projection is None else _n_inputs(parts.output_projection) // n_heads,
        device=_device_of(parts.module),
        attention_factor=parts.attention_factor,
        beside=parts.beside,
        branch=parts.branch,
        hands_on=parts.hands_on,
        mixing=parts.mixing,
    )


def _device_of(block: nn.Module) -> torch.device:
    return next(block.parameters(), torch.empty(0)).device


def _with_reaches(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """The blocks, with what is left at the final norm of what each adds."""
    reach: Factor = 1.0
    found: list[Block] = []
    for block in reversed(blocks):
        reach = reach.to(block.device) if isinstance(reach, Tensor) else reach
        after_mlp = product(reach, 1.0 if block.branch is None else block.branch.addition.keep)
        after_attention = product(after_mlp, block.mlp_addition.keep)
        found.append(replace(block, attention_reach=after_attention, mlp_reach=after_mlp, reach=reach))
        reach = product(after_attention, block.attention_addition.keep)
    return tuple(reversed(found))


def _architecture(model: PreTrainedModel) -> str:
    named: list[str] = model.config.architectures or [type(model).__name__]
    return named[0]


def _n_inputs(projection: Projection) -> int:
    return projection.weight.shape[0] if isinstance(projection, Conv1D) else projection.weight.shape[1]


def _n_outputs(projection: Projection) -> int:
    return projection.weight.shape[1] if isinstance(projection, Conv1D) else projection.weight.shape[0]


def _n_heads(config: Any, layer: int) -> int:
    names = ("num_attention_heads", "n_head", "n_heads", "num_heads")
    try:
        found = _first_number(config, names)
    except RuntimeError:  # by configurations that have a number for each layer
        found = _first_number(config.per_layer_config[layer], names)
    if found is None:
        raise OtherShapeError("its configuration names no number of attention heads")
    return found


def _n_kv_heads(attention: nn.Module, n_heads: int, d_head: int) -> int:
    """Heads of keys and values, by the widths of their projections."""
    linear = {
        name.rpartition(".")[2]: module for name, module in attention.named_modules() if isinstance(module, Projection)
    }
    for name in ("v_proj", "value", "v", "k_proj"):
        if name in linear:
            return max(1, _n_outputs(linear[name]) // d_head)
    joint = max((_n_outputs(module) for module in linear.values()), default=0)
    n_joint = joint // d_head - n_heads
    return n_joint // 2 if 0 < n_joint <= 2 * n_heads and n_joint % 2 == 0 else n_heads


def _d_mlp(blocks: Iterable[BlockParts], config: object, d_model: int) -> int:
    """Neurons of the first layer, or of the first that has some."""
    for block in blocks:
        if block.mlp_output is not None:
            return _n_inputs(block.mlp_output)
    return _first_number(config, ("moe_intermediate_size", "intermediate_size", "ffn_dim", "n_inner")) or 4 * d_model


def _first_number(config: object, names: Iterable[str]) -> int | None:
    return next((value for name in names if isinstance(value := getattr(config, name, None), int)), None)
