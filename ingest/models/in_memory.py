"""A model that is in memory already, measured through a copy of its modules that shares the tensors of its weights.

The model itself is only read: mode, attention kernel and activations are changed in the copy alone.
"""

import copy
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from selfrepair.ingest.compat import attention_kernel, can_switch_attention, forward_hooks, name_or_path, unwrapped
from selfrepair.ingest.conventions import PRECISIONS, Precision
from selfrepair.ingest.models.configuration import config_sha256
from selfrepair.ingest.models.loading import LoadedModel, adapter_of, model_record
from selfrepair.ingest.models.notes import notes_on
from selfrepair.ingest.models.tokenizer import check_vocabulary
from selfrepair.ingest.models.weights import attention_kind, use_fused_gelu, weights_sha256
from selfrepair.warehouse.errors import SelfRepairError


def share_model(
    model: object, name: str | None = None, tokenizer: PreTrainedTokenizerBase | None = None
) -> LoadedModel:
    """`model`, a causal language model of transformers or a TransformerBridge without processed weights, ready to be measured.

    It is named `name`, or as its configuration says. The digests are of its weights as they are now, and of whatever else
    decides its numbers. Raises SelfRepairError for any other object, a model that hooks change, weights of
    several types or devices, another model's tokenizer, and a family that does not fit.
    """
    bridge = model if isinstance(model, TransformerBridge) else None
    if bridge is not None and bridge.compatibility_mode:
        raise SelfRepairError(
            "this TransformerBridge is in compatibility mode: its weights are folded and centred, so that LayerNorm and the "
            "logits of the model itself cannot be measured. Boot another one and leave enable_compatibility_mode() out, or "
            "pass the transformers model."
        )
    own = _language_model(model if bridge is None else bridge.original_model)
    _refuse_hooks(own)
    _refuse_adapters(own)
    _check_weights(own)
    twin = _copy_sharing_weights(own) if bridge is None else _inside(bridge)
    twin.eval()
    if not twin.config.architectures:  # a model that was made from its configuration
        twin.config.architectures = [_class_name(twin)]
    name = name or _name(own)
    digest, config_digest = weights_sha256(twin), config_sha256(twin, edited=True)
    kind = attention_kind(twin.config)
    if attention_kernel(twin) != kind and can_switch_attention(type(twin)):
        twin.set_attn_implementation(kind)
    use_fused_gelu(twin)
    adapter = adapter_of(twin, name)
    if tokenizer is not None:
        check_vocabulary(tokenizer, name, adapter.d_vocab)
    return LoadedModel(adapter, tokenizer, model_record(adapter, name, digest, config_digest), notes=notes_on(adapter))


def precision_of(model: LoadedModel) -> Precision:
    """The precision in which a model computes as it is."""
    return PRECISIONS[str(model.adapter.layer_dtype).removeprefix("torch.")]


def _language_model(model: object) -> PreTrainedModel:
    if isinstance(model, PreTrainedModel) and model.get_output_embeddings() is not None:
        return model
    if hasattr(model, "merge_and_unload"):
        step = "Merge its adapters into the weights: model.merge_and_unload()"
    elif isinstance(getattr(model, "_orig_mod", None), PreTrainedModel):
        step = "It is compiled: pass model._orig_mod"
    elif isinstance(getattr(model, "module", None), PreTrainedModel):
        step = "It is wrapped: pass model.module"
    else:
        step = (
            "Pass for example what AutoModelForCausalLM.from_pretrained or TransformerBridge.boot_transformers returns"
        )
    raise SelfRepairError(
        f"a {type(model).__name__} is neither a causal language model of transformers nor a TransformerBridge of one. {step}."
    )


def _refuse_hooks(model: nn.Module) -> None:
    """A hook can change what the model computes, and would run in every ablated forward."""
    patched = [path for path, module in model.named_modules() if "forward" in vars(module)]
    if patched:
        raise SelfRepairError(
            f"the forward of {patched[0] or 'the model'} was replaced. What it changes is not in the weights. Replace the "
            "module by one of a class of your own instead, whose forward computes that."
        )
    found = [path for path, module in model.named_modules() if forward_hooks(module)]
    if found:
        more = f" and {len(found) - 1} more modules" if len(found) > 1 else ""
        raise SelfRepairError(
            f"the model has forward hooks at {found[0] or 'its top'}{more}. What they change is not in the weights. Remove "
            "them (handle.remove(), or reset_hooks() of a TransformerBridge) and make lasting edits in the weights."
        )


def _refuse_adapters(model: nn.Module) -> None:
    """Each head's output is read from the layers' own weights, which an adapter that is not merged leaves as they were."""
    found = next((path for path, module in model.named_modules() if type(module).__module__.startswith("peft.")), None)
    if found is not None:
        raise SelfRepairError(
            f"the model has an adapter of peft at {found}, which is not part of its weights. Merge it: "
            "peft.PeftModel.from_pretrained(BASE_MODEL, ADAPTER).merge_and_unload()"
        )


def _check_weights(model: PreTrainedModel) -> None:
    """Raise SelfRepairError unless all parameters are of one type that can be measured, on one device."""
    types = Counter(str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters())
    devices = Counter(str(parameter.device) for parameter in model.parameters())
    unknown = sorted(set(types) - set(PRECISIONS))
    if unknown:
        raise SelfRepairError(
            f"the model has parameters of type {', '.join(unknown)}, as quantized ones are. Load it without quantization, "
            "for example with dtype=torch.bfloat16."
        )
    if len(types) > 1:
        raise SelfRepairError(
            f"the model's parameters are of several types ({', '.join(types)}). Give them one, such as "
            "model.to(torch.float32)."
        )
    if len(devices) > 1 or "meta" in devices:
        raise SelfRepairError(
            f"the model's parameters are on {' and '.join(devices)}, and must be on one device. Move them, for example "
            'model.to("cuda"), or load the model without device_map. For one that is larger than a device, use '
            "selfrepair ingest --device cuda:0+cuda:1 with the model's folder."
        )


def _copy_sharing_weights(model: Any) -> Any:
    """A copy of all modules and settings that shares every tensor."""
    inside = model.original_model.modules() if isinstance(model, TransformerBridge) else ()
    shared = {
        id(tensor): tensor
        for module in (*model.modules(), *inside)
        for tensor in (*nn.Module.parameters(module, recurse=False), *module.buffers(recurse=False))
    }
    try:
        return copy.deepcopy(model, shared)
    except (RuntimeError, TypeError, ValueError) as error:
        raise SelfRepairError(
            f"the modules of this {type(model).__name__} cannot be copied ({error}). Save it with "
            "model.save_pretrained(FOLDER) and measure that: selfrepair ingest --model FOLDER"
        ) from error


def _inside(bridge: TransformerBridge) -> PreTrainedModel:
    """A copy of the model that `bridge` wraps, without the wrapping.

    Raises SelfRepairError where the two answer differently: permanent hooks are the bridge's own.
    """
    twin = _copy_sharing_weights(bridge).eval()
    tokens = torch.arange(8, device=next(bridge.original_model.parameters()).device)[None] % twin.cfg.d_vocab
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_bridge = twin(tokens)
        model = _language_model(twin.original_model)
        _unwrap(model, set())
        logits = model(input_ids=tokens, use_cache=False).logits
    off = float((of_bridge - logits).abs().max() / logits.abs().max().clamp_min(1e-6))
    allowed = PRECISIONS[str(logits.dtype).removeprefix("torch.")].preflight
    if not off <= allowed:
        raise SelfRepairError(
            f"this TransformerBridge answers differently from the model that it wraps (off by {off:.2g} of the largest logit, "
            f"{allowed:g} allowed): a permanent hook, or an edit of its own copies of weights. Make the edit in the weights of "
            "bridge.original_model."
        )
    return model


def _unwrap(module: nn.Module, seen: set[int]) -> None:
    """Put every wrapped module back into the place of its wrapper."""
    seen.add(id(module))
    for name, child in list(module.named_children()):
        setattr(module, name, unwrapped(child))
        if id(unwrapped(child)) not in seen:
            _unwrap(unwrapped(child), seen)


def _name(model: PreTrainedModel) -> str:
    name = name_or_path(model) or type(model).__name__
    return Path(name).resolve().name if Path(name).exists() else name


def _class_name(model: PreTrainedModel) -> str:
    """The name of the model's class in transformers, which a class of the user's own may be derived from."""
    return next(
        (kind.__name__ for kind in type(model).__mro__ if kind.__module__.startswith("transformers.models.")),
        type(model).__name__,
    )
