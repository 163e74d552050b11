"""Checkpoints whose weights are quantized to 8 bits or fewer: read as plain weights, where that can be done."""

import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from selfrepair.ingest.models.weight_files import NotWholeError


@dataclass(frozen=True)
class Method:
    """A way to quantize that can be undone: `package` is needed for it, `config` makes transformers undo it as it reads.

    Without a `config`, the model that was read is asked to.
    """

    package: str | None
    config: str | None


METHODS = {
    "fp8": Method(None, "FineGrainedFP8Config"),
    "mxfp4": Method(None, "Mxfp4Config"),
    "compressed-tensors": Method("compressed-tensors", "CompressedTensorsConfig"),
    "bitsandbytes": Method("bitsandbytes", None),
}
"""By the name in the configuration. All were tried on a CPU; those of other names are refused."""

_PACKAGES = {
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "aqlm": "aqlm",
    "auto-round": "auto-round",
    "eetq": "eetq",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "torchao": "torchao",
    "vptq": "vptq",
}
"""The packages that run what is refused."""


def quantization_of(config: PreTrainedConfig) -> str | None:
    """The method of a configuration's quantization; None without one."""
    found: Any = getattr(config, "quantization_config", None)
    if not found:
        return None
    settings: Mapping[str, Any] = found if isinstance(found, Mapping) else vars(found)
    method = settings.get("quant_method") or (
        "bitsandbytes" if any("load_in" in name for name in settings) else "unknown"
    )
    name = str(getattr(method, "value", method))
    return "bitsandbytes" if name.startswith("bitsandbytes") else name


def check_method(method: str) -> None:
    """Raise NotWholeError for a quantization that cannot be undone, or not without a package that is not installed."""
    step = "Give the model that it was made from."
    if method not in METHODS:
        package = f" with the package {_PACKAGES[method]}" if method in _PACKAGES else ""
        raise NotWholeError(
            f"its weights are quantized ({method}{package}), which is not undone here, as that of {', '.join(METHODS)} is",
            step,
        )
    needed = METHODS[method].package
    if needed is not None and importlib.util.find_spec(needed.replace("-", "_")) is None:
        raise NotWholeError(
            f"its weights are quantized ({method}), and the package {needed}, which undoes that, is not installed",
            f"Install it: pip install {needed}. Or: {step[0].lower()}{step[1:]}",
        )


def packages_of(method: str) -> tuple[str, ...]:
    """The packages beside transformers that decide what the weights are read as."""
    needed = METHODS[method].package
    return () if needed is None else (needed,)


def read_dequantized(method: str, read: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """What `read` makes of options of `from_pretrained` that undo the quantization, in float32.

    Raises NotWholeError where any of it is left.
    """
    config_class = METHODS[method].config
    if config_class is not None:
        settings = getattr(transformers, config_class)(dequantize=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the rest of the settings comes from config.json, as it shall
            model = read(dtype=torch.float32, quantization_config=settings)
    else:
        logging.getLogger(method).setLevel(logging.ERROR)  # it tells of faster kernels
        model = read(dtype=torch.float32, device_map={"": "cpu"})
        model = model.dequantize(dtype=torch.float32)
    left = [name for name, parameter in model.named_parameters() if parameter.dtype != torch.float32]
    if left:
        raise NotWholeError(
            f"its weights are quantized ({method}), and transformers {transformers.__version__} leaves {left[0]} so",
            "Give the model that it was made from.",
        )
    model.config.__dict__.pop("quantization_config", None)
    return model
