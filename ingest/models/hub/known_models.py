"""Names of models that a wrong name may have meant: those in the local cache, and well-known ones."""

import difflib
from pathlib import Path

from huggingface_hub import constants

from selfrepair.ingest.models.demo import DEMO
from selfrepair.ingest.models.families import EXAMPLES


def near_names(name: str) -> list[str]:
    """Names like `name`, the most similar first, at most three: without the owner, in another case, mistyped."""
    well_known = (example for examples in EXAMPLES.values() for example in examples)
    known = list(dict.fromkeys([*cached_models(), DEMO, *well_known]))
    by_words = {words: full for full in known for words in (full.lower(), _last(full))}
    near = difflib.get_close_matches(name.lower(), by_words, n=6, cutoff=0.75)
    near += difflib.get_close_matches(_last(name), by_words, n=6, cutoff=0.85)
    return list(dict.fromkeys(by_words[words] for words in near if by_words[words] != name))[:3]


def cached_models() -> list[str]:
    """The models of the local cache, complete or not."""
    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def _last(name: str) -> str:
    """A model's name without its owner."""
    return name.rsplit("/", 1)[-1].lower()
