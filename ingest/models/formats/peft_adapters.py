"""Adapters of peft, such as LoRA's: merged into the weights of their base as they are loaded."""

import importlib.util
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from selfrepair.ingest import compat
from selfrepair.ingest.models.weight_files import ADAPTER, NotWholeError

PACKAGE = "peft"
_ANOTHER_BASE = f"Put the model that it was trained on into base_model_name_or_path of {ADAPTER}: a folder or a hub id."


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder, its kind such as LORA, and the model that it was trained on."""

    folder: Path
    kind: str
    base: str
    base_revision: str | None

    @property
    def origin(self) -> str:
        """What it is and of which model, for the record."""
        at = f"@{self.base_revision}" if self.base_revision else ""
        base = Path(self.base).resolve().name if Path(self.base).exists() else self.base
        return f"{self.kind} on {base}{at}"


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder. Raises NotWholeError for one that names no base, and without peft."""
    try:
        config = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        base, kind, revision = (config.get(name) for name in ("base_model_name_or_path", "peft_type", "revision"))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise NotWholeError(f"{ADAPTER} is damaged") from error
    if not isinstance(base, str) or not base:
        raise NotWholeError(f"its {ADAPTER} names no model that the adapter was trained on", _ANOTHER_BASE)
    if importlib.util.find_spec(PACKAGE) is None:
        raise NotWholeError(
            f"it holds an adapter of {base} ({ADAPTER}), such as LoRA's, and the package {PACKAGE}, which merges it, is not "
            "installed",
            f"Install it: pip install {PACKAGE}. Or give a folder with merged weights: PeftModel.from_pretrained("
            f'AutoModelForCausalLM.from_pretrained("{base}"), "{folder}").merge_and_unload().save_pretrained("merged"), and '
            "the tokenizer saved there.",
        )
    return Adapter(folder, str(kind), base, revision if isinstance(revision, str) else None)


def merge(model: PreTrainedModel, adapter: Adapter) -> PreTrainedModel:
    """The base `model` with the adapter merged into its weights, in float32.

    Raises NotWholeError for an adapter that cannot be merged, and for one whose modules or shapes are not the base's.
    """
    import peft

    for parameter in model.parameters():  # in half precision, small changes would be rounded away
        parameter.data = parameter.data.to(torch.float32)
    where = str(adapter.folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names, which are compared below
        if peft.PeftConfig.from_pretrained(where).is_prompt_learning:
            raise NotWholeError(
                f"its adapter ({adapter.kind}) adds tokens to every prompt, and cannot be merged into weights",
                "Give an adapter that can, such as LoRA's.",
            )
        weights = peft.load_peft_weights(where, device="cpu")
        try:
            wrapped = peft.PeftModel.from_pretrained(model, where)
        except (ValueError, RuntimeError) as error:
            raise _another_base(adapter, compat.first_misfit(error)[:300]) from error
        expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
        unknown = sorted(weights.keys() - expected.keys() - wrapped.state_dict().keys())
        missing = sorted(expected.keys() - weights.keys())
        if unknown:
            raise _another_base(adapter, f"the base has no place for {unknown[0]}")
        if missing:
            raise _another_base(adapter, f"its files lack {missing[0]}")
        merged: PreTrainedModel = wrapped.merge_and_unload()
    return merged


def _another_base(adapter: Adapter, reason: str) -> NotWholeError:
    return NotWholeError(f"its adapter does not fit its base {adapter.base}: {reason}", _ANOTHER_BASE)
