"""How many layers, heads and positions a model has by its description, read without torch before anything is loaded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfrepair.ingest.models.formats.gguf_header import read_header
from selfrepair.ingest.models.weight_files import ADAPTER, NotWholeError

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads")
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


@dataclass(frozen=True)
class Shape:
    """What a description says; None stands for what it does not."""

    n_layers: int | None = None
    n_heads: int | None = None
    context: int | None = None
    n_experts: int | None = None


def read_shape(path: Path) -> Shape:
    """The shape of the model in a folder or a GGUF file; of an adapter, that of no base is told.

    What cannot be read has no shape here: loading it says why.
    """
    try:
        if path.is_file():
            return _of_gguf(path)
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, NotWholeError):
        return Shape()
    return _of_config(config) if isinstance(config, dict) else Shape()


def base_of(folder: Path) -> str | None:
    """The model that an adapter was trained on, by the name in its configuration."""
    try:
        base = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return base if isinstance(base, str) and base else None


def _of_config(config: Mapping[str, Any]) -> Shape:
    nested = config.get("text_config")
    config = nested if isinstance(nested, Mapping) else config
    return Shape(*(_first(config, names) for names in (_LAYERS, _HEADS, _CONTEXT, _EXPERTS)))


def _of_gguf(file: Path) -> Shape:
    header = read_header(file)
    names = ("block_count", "attention.head_count", "context_length", "expert_count")
    return Shape(*map(header.whole_number, names))


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of the names that has a value; None unless it is a whole number."""
    value = next((config[name] for name in names if config.get(name) is not None), None)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
