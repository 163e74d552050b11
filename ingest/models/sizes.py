"""Whether a model can be as large as its config.json says: compared with its files before anything is made of that size."""

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from selfrepair.ingest.models.completeness import weight_files
from selfrepair.ingest.models.weight_files import NotWholeError
from selfrepair.warehouse.files import is_lfs_pointer

_LAYERS = re.compile(r"(num|n)_(hidden_|decoder_)?layers?|decoder_layers")
_WIDTHS = re.compile(
    r"(num|n)_(attention_|key_value_)?heads?|decoder_attention_heads|head_dim|hidden_size|n_embd|embed_dim|d_model|"
    r"word_embed_proj_dim|intermediate_size|ffn_dim|ffn_hidden_size|decoder_ffn_dim|d_ff|n_inner|vocab_size|n_positions|n_ctx"
)
"""Keys of a configuration that count layers, and those that are the length of some axis of a weight."""

_CONTEXT = "max_position_embeddings"

_STEP = "Put the config.json there that was saved with these weights."
_LONGEST_CONFIG = 2**24
_LARGEST_BUFFER = 2**30
_MOST_WITHOUT_WEIGHTS = 10**6
_LONGEST_HEADER = 100_000_000
_MOST_IN_A_BYTE = 4
_LEAST_BYTES_OF_A_TENSOR = 64
"""What a weight takes in a pickled file beside its values, at least."""


def check_sizes(folder: Path) -> None:
    """Raise NotWholeError where config.json gives a size that is no whole number from 1, more layers than there are weights
    in the files, or an axis longer than all of them are. Of the weights, only headers are read.
    """
    file = folder / "config.json"
    if file.stat().st_size > _LONGEST_CONFIG:
        raise NotWholeError(f"config.json is {file.stat().st_size:,} bytes long, which none is", _STEP)
    config = json.loads(file.read_text(encoding="utf-8"))
    weights = _there(folder, config.get("transformers_weights") if isinstance(config, dict) else None)
    n_tensors = sum(map(_n_tensors, weights)) if weights else _MOST_WITHOUT_WEIGHTS
    n_bytes = sum(file.stat().st_size for file in weights) if weights else _MOST_WITHOUT_WEIGHTS
    for name, value in _sizes(config):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise NotWholeError(f"{name} in config.json is {value!r:.40}, not a whole number from 1", _STEP)
        found = f"{name} in config.json is {value:,}" if value < 10**15 else f"{name} in config.json is enormous"
        if _LAYERS.fullmatch(name) and value > n_tensors:
            raise NotWholeError(f"{found}, and its files hold {n_tensors:,} weights, not one for each layer", _STEP)
        if value > n_bytes and name != _CONTEXT:  # of rotary positions, any number will do
            raise NotWholeError(f"{found}, and its weight files are {n_bytes:,} bytes long", _STEP)


def check_parameters(
    folder: Path, config: PreTrainedConfig, *, trust_remote_code: bool, is_quantized: bool = False
) -> None:
    """Raise NotWholeError where the model of a configuration has more parameters than its files have bytes (or several to a
    byte, where they are quantized), which would be made up and fill the memory, or a buffer that does. It is made without
    values, which takes no memory.
    """
    weights = _there(folder, getattr(config, "transformers_weights", None))
    if not weights:
        return
    try:
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception:  # of many types, which loading it raises too
        return
    n_parameters = sum(parameter.numel() for parameter in made.parameters())
    n_bytes = sum(file.stat().st_size for file in weights)
    if n_parameters > n_bytes * (_MOST_IN_A_BYTE if is_quantized else 1):
        raise NotWholeError(
            f"config.json describes {n_parameters:,} parameters, and its weight files are {n_bytes:,} bytes long", _STEP
        )
    for name, buffer in made.named_buffers():
        if buffer.numel() > _LARGEST_BUFFER:
            raise NotWholeError(f"config.json makes {name} a buffer of {buffer.numel():,} numbers", _STEP)


def _there(folder: Path, named: Any) -> list[Path]:
    names = weight_files(folder, named if isinstance(named, str) else None)
    return [file for file in map(folder.joinpath, names) if file.is_file() and not is_lfs_pointer(file)]


def _sizes(config: Any) -> Iterator[tuple[str, Any]]:
    """The sizes in a configuration and in those nested in it, by name; of a list, such as one for each layer, every value."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, dict):
            yield from _sizes(value)
        elif value is not None and (name == _CONTEXT or _LAYERS.fullmatch(name) or _WIDTHS.fullmatch(name)):
            yield from ((name, one) for one in (value if isinstance(value, list) else [value]))


def _n_tensors(file: Path) -> int:
    """How many weights a file holds, or at most can hold."""
    if file.suffix == ".safetensors":
        with file.open("rb") as opened:
            n_bytes = int.from_bytes(opened.read(8), "little")
            if n_bytes > min(_LONGEST_HEADER, file.stat().st_size):
                raise NotWholeError(
                    f"{file.name} is damaged: its header is longer than a header can be, or than the file"
                )
            header = json.loads(opened.read(n_bytes))
        return len(header.keys() - {"__metadata__"})
    if zipfile.is_zipfile(file):  # as torch saves them: one entry for each
        with zipfile.ZipFile(file) as archive:
            return len(archive.namelist())
    return file.stat().st_size // _LEAST_BYTES_OF_A_TENSOR
