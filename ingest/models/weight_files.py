"""The files of a model's weights, by the names that transformers knows."""

import json
from pathlib import Path, PureWindowsPath

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""In the order in which transformers looks for them; `<name>.index.json` lists several files in place of one."""

ADAPTER = "adapter_config.json"
"""The file by which peft, and transformers where peft is installed, know an adapter."""

ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""In the order in which peft looks for them."""

SAVE_AGAIN = "The folder is not a complete model in Hugging Face format: save it again with model.save_pretrained."
TRY_ANOTHER_REVISION = (
    "The hub has no complete model that this release of transformers can read: try another --revision."
)


class NotWholeError(Exception):
    """A folder lacks a part of a model, or holds one that cannot be read or would be left out; the message says which.

    `step` is what to do, where saving the model again is not it.
    """

    def __init__(self, reason: str, step: str | None = None) -> None:
        super().__init__(reason)
        self.step = step


def indexed_files(folder: Path, weights: str) -> list[str]:
    """The files that the index of `weights` lists; none where there is no index.

    Raises NotWholeError for a damaged index. One that names files elsewhere is among them: whoever made the model has no
    say over what else is read here.
    """
    index = folder / f"{weights}.index.json"
    if not index.is_file():
        return []
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        elsewhere = sorted(repr(name) for name in names if not is_file_name(name))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotWholeError(f"{index.name} is damaged: it holds no weight_map of file names") from error
    if elsewhere:
        raise NotWholeError(f"{index.name} is damaged: it names {elsewhere[0]:.80}, which is no file of its folder")
    return sorted(names)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and not the weights of a whole model."""
    whole = any((folder / file).exists() for name in WEIGHTS for file in (name, f"{name}.index.json"))
    return (folder / ADAPTER).is_file() and not whole


def is_file_name(name: object) -> bool:
    """Whether it can only be a file beside the index, on whatever system: no path, drive or parent folder."""
    return isinstance(name, str) and name not in ("", "..") and PureWindowsPath(name).name == name
