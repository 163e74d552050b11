"""The model in a GGUF file, read by transformers with the package `gguf`: its configuration, and its weights dequantized."""

import contextlib
import importlib.metadata
import importlib.util
import io
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from selfrepair.ingest import compat
from selfrepair.ingest.models.formats.gguf_header import DOWNLOAD_AGAIN, GgufHeader, read_header
from selfrepair.ingest.models.weight_files import NotWholeError

PACKAGE = "gguf"

_ROTARY = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
"""Factors of the rotary frequencies, which transformers leaves out."""

_FLOATS = ("F32", "F16", "BF16")
_IN_HUGGING_FACE_FORMAT = "Give the model that it was made from, as a folder in Hugging Face format or a hub id."


def check_gguf(file: Path) -> GgufHeader:
    """The header of a file that can be read whole. Raises NotWholeError for any other, and without the package."""
    header = read_header(file)
    if importlib.util.find_spec(PACKAGE) is None:
        raise NotWholeError(
            f"reading it needs the package {PACKAGE}, which is not installed", f"Install it: pip install {PACKAGE}"
        )
    import gguf

    n_bytes = file.stat().st_size
    for tensor in header.tensors:
        kind = _kind(tensor.ggml_type)
        values, in_bytes = gguf.GGML_QUANT_SIZES[kind]
        end = header.data_start + tensor.offset + tensor.n_values // values * in_bytes
        if end > n_bytes:
            raise NotWholeError(
                f"it is cut off: {tensor.name} ends at byte {end:,}, and the file at {n_bytes:,}", DOWNLOAD_AGAIN
            )
    for kind in {_kind(tensor.ggml_type) for tensor in header.tensors}:
        _check_kind(kind)
    left_out = [tensor.name for tensor in header.tensors if tensor.name in _ROTARY]
    if left_out:
        raise NotWholeError(
            f"it scales its rotary frequencies ({left_out[0]}), which transformers {transformers.__version__} does not read "
            "from such files",
            _IN_HUGGING_FACE_FORMAT,
        )
    return header


def quantization(header: GgufHeader) -> str:
    """What the file's weights are stored as, as llama.cpp names it, such as Q4_K_M."""
    import gguf

    file_type = header.values.get("general.file_type")
    if isinstance(file_type, int):
        with contextlib.suppress(ValueError):  # one that the package does not know
            return str(gguf.LlamaFileType(file_type).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    return "+".join(sorted({_kind(tensor.ggml_type).name for tensor in header.tensors}))


def is_quantized(header: GgufHeader) -> bool:
    """Whether any tensor is stored as less than plain numbers."""
    return any(_kind(tensor.ggml_type).name not in _FLOATS for tensor in header.tensors)


def gguf_config(header: GgufHeader) -> PreTrainedConfig:
    """The configuration that transformers makes of a file's header.

    Raises NotWholeError for an architecture that it does not read from such files, or one that does not fit the tensors.
    """
    n_layers = header.whole_number("block_count")
    if n_layers is not None and n_layers > len(header.tensors):
        raise NotWholeError(
            f"its header counts {n_layers:,} layers, and it holds {len(header.tensors):,} tensors", DOWNLOAD_AGAIN
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(header.file.parent, gguf_file=header.file.name)
    except ValueError as error:
        if not compat.is_unknown_gguf(error):
            raise
        raise NotWholeError(
            f"transformers {transformers.__version__} does not read the architecture {header.architecture} from GGUF files",
            f"{_IN_HUGGING_FACE_FORMAT} Later releases may read it: pip install --upgrade transformers",
        ) from error
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    names = {tensor.name for tensor in header.tensors}
    is_twice = config.tie_word_embeddings and "output.weight" in names
    n_there = sum(tensor.n_values for tensor in header.tensors if not (is_twice and tensor.name == "output.weight"))
    n_expected = sum(parameter.numel() for parameter in made.parameters())
    if n_there != n_expected:
        raise NotWholeError(
            f"it holds {n_there:,} weights, and the {type(made).__name__} that its header describes has {n_expected:,}",
            _IN_HUGGING_FACE_FORMAT,
        )
    return config


def read_gguf(header: GgufHeader, config: PreTrainedConfig, attention: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model with plain weights, and what transformers says of their names."""
    options: dict[str, Any] = {}
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that no setting turns off
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            header.file.parent,
            gguf_file=header.file.name,
            config=config,
            dtype="auto",
            attn_implementation=attention,
            output_loading_info=True,
            **options,
        )
    model, found = loaded
    model.config.__dict__.pop("quantization_config", None)
    return model, found


def _kind(ggml_type: int) -> Any:
    import gguf

    try:
        return gguf.GGMLQuantizationType(ggml_type)
    except ValueError as error:
        raise NotWholeError(
            f"its weights are of type {ggml_type}, which the package {PACKAGE} {_version()} does not know",
            f"Try a later one: pip install --upgrade {PACKAGE}. Or give a file of another quantization, such as Q8_0 or F16.",
        ) from error


def _check_kind(kind: Any) -> None:
    """Raise NotWholeError for a quantization that the package cannot undo, tried on one block."""
    import gguf
    import numpy as np

    _, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros(n_bytes, dtype=np.uint8), kind)
    except (NotImplementedError, KeyError) as error:
        raise NotWholeError(
            f"its weights are quantized as {kind.name}, which the package {PACKAGE} {_version()} cannot undo",
            "Give a file of another quantization, such as Q8_0, Q4_K_M or F16.",
        ) from error


def _version() -> str:
    return importlib.metadata.version(PACKAGE)
