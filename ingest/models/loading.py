"""Load a causal language model and its tokenizer, by hub id, local folder, or `demo` for the bundled one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from selfrepair.ingest import compat
from selfrepair.ingest.conventions import Precision
from selfrepair.ingest.models.adapter import ModelAdapter, adapt, unsupported
from selfrepair.ingest.models.completeness import check_no_adapter
from selfrepair.ingest.models.configuration import config_sha256
from selfrepair.ingest.models.demo import DEMO
from selfrepair.ingest.models.files import find_model
from selfrepair.ingest.models.formats.gguf_header import DOWNLOAD_AGAIN
from selfrepair.ingest.models.formats.peft_adapters import Adapter, read_adapter
from selfrepair.ingest.models.hub.access import offline_reason
from selfrepair.ingest.models.hub.refusals import first_line, not_fetched, not_loaded
from selfrepair.ingest.models.hub.revisions import revision_of
from selfrepair.ingest.models.notes import notes_on
from selfrepair.ingest.models.placement.spread import check_spread, free_bytes, n_bytes, spread
from selfrepair.ingest.models.placement.upcast import store_matrices
from selfrepair.ingest.models.tokenizer import Vocabulary, check_vocabulary, load_tokenizer
from selfrepair.ingest.models.weight_files import ADAPTER, SAVE_AGAIN, TRY_ANOTHER_REVISION, NotWholeError, is_adapter
from selfrepair.ingest.models.weights import (
    Weights,
    cast_parameters,
    read_weights,
    use_fused_gelu,
    weights_sha256,
    with_adapter,
)
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.records import ModelRecord


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device with its adapter, its tokenizer, and its record for the warehouse.

    `notes` are sentences for the user on what was done to its weights, with `packages` beside the usual ones.
    """

    adapter: ModelAdapter
    tokenizer: PreTrainedTokenizerBase | None
    record: ModelRecord
    notes: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    @property
    def vocabulary(self) -> Vocabulary:
        """What the model can read."""
        return Vocabulary(self.tokenizer, self.adapter.d_vocab, self.adapter.context)


def load_model(
    name: str,
    *,
    precision: Precision,
    device: torch.device,
    spread_over: Sequence[torch.device] = (),
    revision: str | None = None,
    checkpoint: int | None = None,
    trust_remote_code: bool = False,
    called: str | None = None,
) -> LoadedModel:
    """Load `name` for measuring, on `device` or with its layers `spread_over` several; its record is `called` so, or by its
    hub id, or its folder's name.

    Raises SelfRepairError for an unknown, gated, offline or incomplete model, for one with another's tokenizer or code of
    its own that is not trusted, and for a family that does not fit.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if checkpoint is not None:
        if revision is not None:
            raise SelfRepairError("--revision and --checkpoint both choose the weights. Give one of them.")
        revision = revision_of(checkpoint)
    path = find_model(name, revision)
    try:
        found, tokenizer = _read(path, name, trust_remote_code)
    except SelfRepairError:
        raise
    except Exception as error:  # transformers raises a dozen unrelated types
        raise _not_read(name, revision, error) from error
    model, notes = found.model, found.notes
    if precision.weights_dtype is not None and model.dtype != getattr(torch, precision.weights_dtype):
        notes = (*notes, f"The weights are rounded to {precision.weights_dtype}, and that is what is measured.")
    digest, config_digest = weights_sha256(model), config_sha256(model)
    _place(model, name, precision, spread_over or [device])
    use_fused_gelu(model)
    adapter = adapter_of(model, name)
    check_spread(adapter, name)
    if not bool(adapter.final_shape.gain.any()):
        reason = "the gain of its final norm is zero everywhere, so that no token tells anything"
        raise _not_read(name, revision, NotWholeError(reason))
    if tokenizer is not None:
        check_vocabulary(tokenizer, name, adapter.d_vocab)
    origin = ", ".join(part for part in (revision, found.origin) if part) or None
    record = model_record(
        adapter, called or _shown(name), digest, config_digest, revision=origin, checkpoint=checkpoint
    )
    return LoadedModel(adapter, tokenizer, record, notes=(*notes, *notes_on(adapter)), packages=found.packages)


def adapter_of(model: PreTrainedModel, name: str) -> ModelAdapter:
    """The adapter of a model; SelfRepairError for a family that does not fit, for whatever reason, or where memory runs out."""
    try:
        return adapt(model, name)
    except (TypeError, AttributeError, ValueError, LookupError, AssertionError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or compat.says_out_of_memory(error):
            weights = next(model.parameters())
            raise _no_room(name, str(weights.device), str(weights.dtype).removeprefix("torch.")) from error
        raise unsupported(name, f"a few tokens do not run through it ({error})") from error


def tokenizer_of(name: str, revision: str | None = None, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a model whose weights are not needed.

    Raises SelfRepairError for an unknown, gated or offline model, and for one that has no tokenizer.
    """
    path = find_model(name, revision, weights=False)
    try:
        tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    except Exception as error:  # see load_model
        raise _not_read(name, revision, error) from error
    if tokenizer is None:
        raise SelfRepairError(f"model '{name}' has no tokenizer. Name another one with --model.")
    return tokenizer


def model_record(
    adapter: ModelAdapter,
    name: str,
    digest: str,
    config_digest: str,
    *,
    revision: str | None = None,
    checkpoint: int | None = None,
) -> ModelRecord:
    """The warehouse's record of a model: `digest` is the SHA-256 of its weights, `config_digest` its `config_sha256`."""
    return ModelRecord(
        name=name,
        revision=revision,
        checkpoint=checkpoint,
        architecture=adapter.architecture,
        n_layers=adapter.n_layers,
        n_heads=adapter.n_heads,
        n_kv_heads=adapter.n_kv_heads,
        d_model=adapter.d_model,
        d_head=adapter.d_head,
        d_mlp=adapter.d_mlp,
        d_vocab=adapter.d_vocab,
        norm=adapter.norm,
        parallel_blocks=adapter.parallel_blocks,
        n_parameters=sum(parameter.numel() for parameter in adapter.model.parameters()),
        weights_sha256=digest,
        config_sha256=config_digest,
        post_norms=adapter.has_post_norms,
    )


def _read(path: Path, name: str, trust_remote_code: bool) -> tuple[Weights, PreTrainedTokenizerBase | None]:
    """Weights and tokenizer of a folder or a file; of an adapter, merged into its base, whose tokenizer it may do with."""
    if path.is_dir() and is_adapter(path):
        adapter = read_adapter(path)
        base = _base_of(adapter, name)
        weights, of_base = _read(base, adapter.base, trust_remote_code)
        return with_adapter(weights, adapter), load_tokenizer(path, trust_remote_code=trust_remote_code) or of_base
    if path.is_dir():
        check_no_adapter(path)
    weights = read_weights(path, name, trust_remote_code=trust_remote_code)
    return weights, load_tokenizer(path, trust_remote_code=trust_remote_code)


def _base_of(adapter: Adapter, name: str) -> Path:
    try:
        base = find_model(adapter.base, adapter.base_revision)
    except SelfRepairError as error:
        raise SelfRepairError(f"model '{name}' is an adapter, whose {ADAPTER} names its base: {error}") from error
    if base.is_dir() and is_adapter(base):
        raise NotWholeError(
            f"it is an adapter of {adapter.base}, which is one itself",
            "Merge that one first, and name its folder as the base.",
        )
    return base


def _shown(name: str) -> str:
    """A model's name for the record: its hub id, or the name of its folder or file."""
    path = Path(name)
    if not path.exists():
        return name
    return path.resolve().name if path.is_dir() else path.resolve().stem


def _place(model: PreTrainedModel, name: str, precision: Precision, devices: Sequence[torch.device]) -> None:
    """Cast the parameters and move the model to its devices."""
    try:
        computed = getattr(torch, precision.torch_dtype)
        if precision.weights_dtype is None:
            cast_parameters(model, computed)
        else:
            store_matrices(model, getattr(torch, precision.weights_dtype), computed)
        free = free_bytes(devices[0])
        if len(devices) > 1:
            spread(model, name, devices)
        elif free is not None and free < n_bytes(model):
            sizes = f" (its weights are {n_bytes(model) / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free)"
            raise _no_room(name, f"{devices[0]}{sizes}", precision.name)
        else:
            nn.Module.to(model, device=devices[0])
        model.eval()
    except torch.OutOfMemoryError as error:
        raise _no_room(name, "+".join(map(str, devices)), precision.name) from error


def _no_room(name: str, device: str, dtype: str) -> SelfRepairError:
    return SelfRepairError(
        f"in {dtype}, model '{name}' does not fit in the memory of {device}. Try --dtype bfloat16-weights, several GPUs such "
        "as --device cuda:0+cuda:1, or --device cpu."
    )


def _not_read(name: str, revision: str | None, error: Exception) -> SelfRepairError:
    if compat.wants_to_run_code(error):
        return not_loaded(
            name,
            revision,
            "it needs custom code that comes with its files",
            "Read that code, and if you trust it, add --trust-remote-code.",
        )
    if compat.is_unknown_architecture(error):
        return not_loaded(
            name,
            revision,
            f"transformers {transformers.__version__} does not know its architecture{_model_type(error)}",
            "A later release may: pip install --upgrade transformers",
        )
    if compat.is_no_language_model(error):
        return unsupported(name, "it is not a causal language model of this release of transformers")
    if compat.is_pickle_with_code(error):  # PyTorch advises to load it all the same, which runs the code
        return not_loaded(
            name,
            revision,
            "its weights are a pickle that holds more than tensors, and code in it would run as it is read",
            "Give a model with .safetensors files; whoever made this one can write them with model.save_pretrained.",
        )
    if isinstance(error, NotWholeError) and error.step:
        return not_loaded(name, revision, str(error), error.step)
    reason = str(error) if isinstance(error, NotWholeError) else first_line(error)
    if Path(name).is_file():
        step = DOWNLOAD_AGAIN
    elif name == DEMO or Path(name).exists():
        step = SAVE_AGAIN
    elif offline_reason():
        return not_fetched(name, revision, error)
    else:
        step = TRY_ANOTHER_REVISION
    return not_loaded(name, revision, reason, step)


def _model_type(error: Exception) -> str:
    """The type in config.json that the error quotes, in brackets of a sentence."""
    found = re.search(r"model type [`'\"]?([\w.-]+)", str(error))
    return f", {found[1]}" if found else ""
