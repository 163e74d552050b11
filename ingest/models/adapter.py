"""Where a model keeps its blocks, attention, MLPs, final norm and unembedding.

The map comes from TransformerBridge's architecture adapter, so that a family needs no code here; `preflight` proves it on
the weights before anything is measured.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
from transformer_lens.model_bridge.generalized_components import RMSNormalizationBridge
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from selfrepair.ingest import compat
from selfrepair.warehouse.errors import SelfRepairError

NORMS_BEFORE = frozenset({"ln1", "ln2"})
RESIDUAL = "residual"
"""Name of the argument with the residual stream, in families whose modules add their output to it themselves."""

SUPPORTED = "selfrepair models --supported"
"""The command that lists what can be measured; refusals end with it."""


@dataclass(frozen=True)
class Block:
    """One layer's native modules; `mlp` maps the second norm's output to what the MLP adds to the stream.

    `mlp_output` is the MLP's last projection, whose inputs are the neurons' activations; None where there is not just one.
    """

    module: nn.Module
    ln1: nn.Module
    attention: nn.Module
    output_projection: nn.Module
    ln2: nn.Module
    mlp: Callable[[Tensor], Tensor]
    mlp_output: nn.Module | None
    attention_post_norm: nn.Module | None = None
    mlp_post_norm: nn.Module | None = None
    multiplier: float = 1.0


@dataclass(frozen=True)
class ModelAdapter:
    """A model's parts by role. The model itself is not changed: no weight is folded, centred or copied."""

    model: PreTrainedModel
    architecture: str
    blocks: tuple[Block, ...]
    parallel_blocks: bool
    final_norm: nn.Module
    norm: str
    unembedding: nn.Linear
    gain: Float[Tensor, " d_model"]
    eps: float
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    d_mlp: int
    d_vocab: int
    context: int | None
    has_post_norms: bool = False
    logit_scale: float = 1.0
    logit_softcap: float | None = None

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.unembedding.weight.device

    @property
    def layer_dtype(self) -> torch.dtype:
        """What the layers compute in."""
        return self.unembedding.weight.dtype

    @property
    def stream_dtype(self) -> torch.dtype:
        """What the residual stream and the effects are kept in: float32, or float64 for a float64 model."""
        return torch.promote_types(self.layer_dtype, torch.float32)

    def head_output_weight(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """W_O of one layer, a slice per query head."""
        projection = self.blocks[layer].output_projection
        weight: Tensor = projection.weight  # type: ignore[assignment]
        rows = weight if isinstance(projection, Conv1D) else weight.T
        by_head: Tensor = rows.unflatten(0, (self.n_heads, self.d_head))
        return by_head

    def neuron_output_weight(self, layer: int) -> Float[Tensor, "neuron d_model"]:
        """W_out of one layer's MLP, a row per neuron."""
        projection = self.blocks[layer].mlp_output
        assert projection is not None, "Mechanisms.neuron_layers lets no such layer through"
        weight: Tensor = projection.weight  # type: ignore[assignment]
        return weight if isinstance(projection, Conv1D) else weight.T


def adapt(model: PreTrainedModel, name: str) -> ModelAdapter:
    """The adapter of `model`.

    Raises SelfRepairError for a family whose shape the measurement does not cover, saying what stands in the way.
    """
    architecture, family = _architecture_adapter(model, name)
    _refuse_other_shapes(model, family, architecture, name)
    mapping = family.component_mapping
    if mapping is None:
        raise unsupported(name, f"TransformerLens has no component map for {architecture}")
    final_norm = model.get_submodule(_name(mapping["ln_final"]))
    unembedding = model.get_submodule(_unembedding_name(model, _name(mapping["unembed"])))
    if not isinstance(unembedding, nn.Linear):
        raise unsupported(name, f"its unembedding is a {type(unembedding).__name__}, not a linear map")
    config = family.cfg
    blocks = tuple(
        _block(module, mapping["blocks"].submodules)
        for module in model.get_submodule(_name(mapping["blocks"])).children()
    )
    return ModelAdapter(
        model=model,
        architecture=architecture,
        blocks=blocks,
        parallel_blocks=bool(config.parallel_attn_mlp),
        final_norm=final_norm,
        norm="rmsnorm" if isinstance(mapping["ln_final"], RMSNormalizationBridge) else "layernorm",
        unembedding=unembedding,
        gain=_gain(final_norm, unembedding, offset=bool(config.rmsnorm_uses_offset)),
        eps=_eps(final_norm, name),
        n_heads=config.n_heads,
        n_kv_heads=config.n_key_value_heads or config.n_heads,
        d_head=config.d_head,
        d_model=config.d_model,
        d_mlp=config.d_mlp or 4 * config.d_model,
        d_vocab=unembedding.out_features,
        context=config.n_ctx,
    )


def unsupported(name: str, reason: str) -> SelfRepairError:
    """The refusal of a model, with the reason and what can be measured instead."""
    return SelfRepairError(f"model '{name}' cannot be measured: {reason}. Supported models: {SUPPORTED}")


def _architecture_adapter(model: PreTrainedModel, name: str) -> tuple[str, ArchitectureAdapter]:
    if model.config.is_encoder_decoder:
        raise unsupported(name, "it is an encoder-decoder; self-repair is defined here for decoder-only models")
    try:
        architecture, config = compat.bridge_config(model, name)
        return architecture, ArchitectureAdapterFactory.select_architecture_adapter(config)
    except ValueError as error:
        reason = str(error).partition(". ")[0]  # what follows is the list of all it knows
        raise unsupported(name, f"TransformerLens does not know its architecture ({reason})") from error


def _refuse_other_shapes(model: PreTrainedModel, family: ArchitectureAdapter, architecture: str, name: str) -> None:
    mapping = family.component_mapping or {}
    missing = [role for role in ("blocks", "ln_final", "unembed") if role not in mapping]
    if missing:
        raise unsupported(name, f"{architecture} has no {', '.join(missing)} of the expected shape")
    parts = set(mapping["blocks"].submodules)
    extra_norms = sorted(part for part in parts if part.startswith("ln") and part not in NORMS_BEFORE)
    if extra_norms:
        raise unsupported(
            name,
            f"{architecture} normalises what attention or the MLP adds ({', '.join(extra_norms)}), so that head outputs "
            "are not terms of the residual stream",
        )
    if {"ln1", "attn", "mlp"} - parts:
        raise unsupported(name, f"{architecture}'s blocks have no {', '.join(sorted({'ln1', 'attn', 'mlp'} - parts))}")
    if "o" not in mapping["blocks"].submodules["attn"].submodules:
        raise unsupported(name, f"{architecture}'s attention has no output projection to split by head")
    if (family.cfg.output_logits_soft_cap or 0) > 0 or (family.cfg.attn_scores_soft_cap or 0) > 0:
        raise unsupported(name, f"{architecture} soft-caps its logits, so direct effects do not add up to logits")
    if getattr(model.config, "do_layer_norm_before", True) is False:
        raise unsupported(name, f"this {architecture} normalises after its blocks (do_layer_norm_before=false)")


def _block(module: nn.Module, parts: dict[str, Any]) -> Block:
    ln1 = module.get_submodule(parts["ln1"].name)
    attention = module.get_submodule(parts["attn"].name)
    return Block(
        module=module,
        ln1=ln1,
        attention=attention,
        output_projection=attention.get_submodule(parts["attn"].submodules["o"].name),
        ln2=module.get_submodule(parts["ln2"].name) if "ln2" in parts else ln1,
        mlp=_mlp(module, parts["mlp"]),
        mlp_output=_mlp_output(module, parts["mlp"]),
    )


def _mlp(module: nn.Module, part: Any) -> Callable[[Tensor], Tensor]:
    if part.name is not None:
        mlp = module.get_submodule(part.name)
        # Families such as Bloom let the MLP add the stream itself: given zeros, it returns what it adds.
        adds_stream = RESIDUAL in inspect.signature(mlp.forward).parameters
        return (lambda normed: mlp(normed, **{RESIDUAL: torch.zeros_like(normed)})) if adds_stream else mlp
    # Families such as OPT keep the two projections in the block itself.
    into = module.get_submodule(part.submodules["in"].name)
    activation = module.get_submodule("activation_fn")
    out = module.get_submodule(part.submodules["out"].name)
    return nn.Sequential(into, activation, out)


def _mlp_output(module: nn.Module, part: Any) -> nn.Module | None:
    out = part.submodules.get("out")
    if out is None or out.name is None:
        return None
    try:
        projection = (module if part.name is None else module.get_submodule(part.name)).get_submodule(out.name)
    except AttributeError:  # a mixture of experts
        return None
    return projection if isinstance(projection, nn.Linear | Conv1D) else None


def _name(component: Any) -> str:
    """The name of a component's module in the model."""
    name: str | None = component.name
    if name is None:
        raise ValueError(f"{type(component).__name__} is not a module of the model")
    return name


def _unembedding_name(model: PreTrainedModel, name: str) -> str:
    """The map's name, or the one that this release of transformers uses for the same module."""
    try:
        model.get_submodule(name)
    except AttributeError:
        output = model.get_output_embeddings()
        return next(str(found) for found, module in model.named_modules() if module is output)
    return name


def _gain(final_norm: nn.Module, unembedding: nn.Linear, *, offset: bool) -> Tensor:
    weight = getattr(final_norm, "weight", None)
    if weight is None:
        return torch.ones(unembedding.in_features, device=unembedding.weight.device)
    gain: Tensor = weight.detach()
    return gain + 1 if offset else gain


def _eps(final_norm: nn.Module, name: str) -> float:
    for attribute in ("eps", "variance_epsilon", "epsilon"):
        if hasattr(final_norm, attribute):
            return float(getattr(final_norm, attribute))
    raise unsupported(name, f"its final norm {type(final_norm).__name__} has no eps")
