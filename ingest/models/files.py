"""Where the files of a model are, found without torch."""

from pathlib import Path

from selfrepair.ingest.models.demo import DEMO, DEMO_FOLDER
from selfrepair.ingest.models.formats.gguf_header import is_gguf
from selfrepair.ingest.models.hub.snapshot import fetch_model
from selfrepair.ingest.models.weight_files import ADAPTER
from selfrepair.warehouse.errors import SelfRepairError


def find_model(name: str, revision: str | None, *, weights: bool = True) -> Path:
    """The folder of a model, fetched from the hub unless `name` is local, or the GGUF file that holds all of it.

    Raises SelfRepairError for a folder or a file that is no model, and for whatever the hub refuses.
    """
    if name == DEMO:
        if revision is not None:
            raise SelfRepairError("the demo model has one set of weights. Leave out --revision and --checkpoint.")
        return DEMO_FOLDER
    path = Path(name)
    if path.exists() and not path.is_dir():
        if is_gguf(path):
            return path
        raise SelfRepairError(
            f"'{name}' is a file, and no GGUF. Give the folder that holds the model, a .gguf file, or a hub id."
        )
    if not path.exists():
        if name.startswith((".", "/", "~")) or path.suffix.lower() == ".gguf":
            kind = "file" if path.suffix.lower() == ".gguf" else "folder"
            raise SelfRepairError(
                f"{kind} '{name}' does not exist. Give a local folder in Hugging Face format, a .gguf file, or a hub id."
            )
        path = fetch_model(name, revision, weights=weights)
    if not any((path / file).is_file() for file in ("config.json", ADAPTER)):
        holder = f"folder '{name}'" if path == Path(name) else f"hub model '{name}'"
        files = sorted(file.name for file in path.glob("*.gguf"))
        step = "Save one there with model.save_pretrained and tokenizer.save_pretrained."
        if files:
            step = f"To measure a GGUF file, give the file: --model {path / files[0]}"
        raise SelfRepairError(f"{holder} holds no config.json, so it is not a model in Hugging Face format. {step}")
    for file in path.iterdir():
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise SelfRepairError(f"{file} is a pipe, a socket or a device, not a file of a model. Remove it.")
    return path
