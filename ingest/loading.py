"""Load a causal language model and its tokenizer, by hub id, local folder, or `demo` for the bundled one."""

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.activations import NewGELUActivation
from transformers.utils import logging as transformers_logging

from selfrepair.ingest.atlas import Atlas, locate, unsupported
from selfrepair.ingest.conventions import Precision
from selfrepair.ingest.demo_model import DEMO, DEMO_FOLDER
from selfrepair.ingest.hub import offline_reason
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts import ModelRecord


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, its atlas, and what the warehouse keeps of it."""

    atlas: Atlas
    tokenizer: PreTrainedTokenizerBase | None
    record: ModelRecord


def load_model(
    name: str,
    *,
    precision: Precision,
    device: torch.device,
    revision: str | None = None,
    checkpoint: int | None = None,
) -> LoadedModel:
    """Load `name` for measuring.

    Raises SelfRepairError for an unknown, gated, offline or incomplete model, and for a family that does not fit.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if checkpoint is not None:
        if revision is not None:
            raise SelfRepairError("--revision and --checkpoint both choose the weights. Give one of them.")
        revision = f"step{checkpoint}"
    if name == DEMO and revision is not None:
        raise SelfRepairError("the demo model has one set of weights. Leave out --revision and --checkpoint.")
    if name.startswith((".", "/", "~")) and not Path(name).exists():
        raise SelfRepairError(
            f"folder '{name}' does not exist. Give a local folder in Hugging Face format, or a hub id."
        )
    place = str(DEMO_FOLDER) if name == DEMO else name
    if not Path(place).exists():
        offline_reason()  # asked now, so that an unreachable hub is not tried again and again
    config = _load_config(place, name, revision)
    if config.is_encoder_decoder:
        raise unsupported(name, "it is an encoder-decoder; self-repair is defined here for decoder-only models")
    model = _load_weights(place, name, revision, config)
    digest = weights_sha256(model)
    try:
        cast_parameters(model, getattr(torch, precision.torch_dtype))
        nn.Module.to(model, device=device)
        model.eval()
    except torch.OutOfMemoryError as error:
        raise SelfRepairError(
            f"model '{name}' does not fit into the memory of {device} in {precision.name}. "
            "Try --dtype bfloat16, --device cpu, or a device with more memory."
        ) from error
    use_fused_gelu(model)
    try:
        atlas = locate(model, name)
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        raise unsupported(name, f"its parts do not lie where TransformerLens looks for them ({error})") from error
    shown = Path(name).resolve().name if Path(name).exists() else name
    record = model_record(atlas, shown, digest, revision=revision, checkpoint=checkpoint)
    return LoadedModel(atlas, _load_tokenizer(place, revision), record)


def model_record(
    atlas: Atlas, name: str, digest: str, *, revision: str | None = None, checkpoint: int | None = None
) -> ModelRecord:
    """What the warehouse keeps of a model whose weights have the SHA-256 `digest`."""
    return ModelRecord(
        name=name,
        revision=revision,
        checkpoint=checkpoint,
        architecture=atlas.architecture,
        n_layers=atlas.n_layers,
        n_heads=atlas.n_heads,
        n_kv_heads=atlas.n_kv_heads,
        d_model=atlas.d_model,
        d_head=atlas.d_head,
        d_mlp=atlas.d_mlp,
        d_vocab=atlas.d_vocab,
        norm=atlas.norm,
        parallel_blocks=atlas.parallel_blocks,
        n_parameters=sum(parameter.numel() for parameter in atlas.model.parameters()),
        weights_sha256=digest,
    )


def weights_sha256(model: PreTrainedModel) -> str:
    """SHA-256 over names, shapes, types and bytes of the parameters, as the checkpoint holds them."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Change the parameters' type in place and leave the buffers: rotary frequencies stay in float32, as in a half-precision
    load by transformers itself.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def use_fused_gelu(model: nn.Module) -> None:
    """Replace GPT-2's `gelu_new`, written as eight operations, by the fused kernel of the same function."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, nn.GELU(approximate="tanh"))


def _load_config(place: str, name: str, revision: str | None):  # type: ignore[no-untyped-def]
    if Path(place).is_dir() and not (Path(place) / "config.json").is_file():
        raise SelfRepairError(
            f"folder '{name}' holds no config.json, so it is no model in Hugging Face format. "
            "Save one there with model.save_pretrained and tokenizer.save_pretrained."
        )
    try:
        return AutoConfig.from_pretrained(place, revision=revision)
    except Exception as error:  # the hub client raises a dozen unrelated types
        raise _not_loaded(name, revision, error) from error


def _load_weights(place: str, name: str, revision: str | None, config: PretrainedConfig) -> PreTrainedModel:
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            place, revision=revision, dtype="auto", attn_implementation=attention_kind(config)
        )
    except Exception as error:  # see _load_config
        if "Unrecognized configuration class" in str(error):
            raise unsupported(name, "it is not a causal language model of this release of transformers") from error
        raise _not_loaded(name, revision, error) from error
    return model


def attention_kind(config: PretrainedConfig) -> str:
    """The fused kernel, but where the cross-check could not switch the model to the plain one: there it is plain at once."""
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    fixed = isinstance(model_class, type) and not model_class._can_set_attn_implementation()
    return "eager" if fixed else "sdpa"


def _load_tokenizer(place: str, revision: str | None) -> PreTrainedTokenizerBase | None:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(place, revision=revision)
    except Exception:  # no tokenizer is fine for a dataset of token ids; one of text says what is missing
        return None
    # transformers makes an empty tokenizer of some families where the files are missing.
    empty = len(tokenizer) <= len(tokenizer.all_special_tokens)
    return None if empty else tokenizer


def _not_loaded(name: str, revision: str | None, error: Exception) -> SelfRepairError:
    at = f" at revision '{revision}'" if revision else ""
    text = f"{type(error).__name__}: {error}"
    reason = text.strip().splitlines()[0].rstrip(".")
    if Path(name).exists():
        step = "The folder is not a whole model in Hugging Face format: save it again with model.save_pretrained."
    elif offline := offline_reason():
        reason = offline
        step = (
            "The model is not whole in the local cache. Download it where the hub can be reached, and give its folder; "
            f"`--model {DEMO}` needs no network."
        )
    elif "gated" in text.lower() or "401" in text or "403" in text:
        step = "Accept its terms on its hub page and set HF_TOKEN."
    elif "connect" in text.lower():
        step = "The hub answers, but did not give the files: run the same command again."
    else:
        near = difflib.get_close_matches(name, [DEMO, "gpt2", "EleutherAI/pythia-160m", "facebook/opt-125m"], n=1)
        step = f"Give a hub id such as EleutherAI/pythia-160m, a local folder, or {near[0] if near else DEMO}."
    return SelfRepairError(f"model '{name}'{at} cannot be loaded ({reason}). {step}")
