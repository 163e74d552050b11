"""Names of models that a wrong name may have meant: those in the local cache, and well-known ones of supported families."""

import difflib
from pathlib import Path

from huggingface_hub import constants

from selfrepair.ingest.demo_model import DEMO

WELL_KNOWN = (
    DEMO,
    "openai-community/gpt2",
    "openai-community/gpt2-medium",
    "openai-community/gpt2-large",
    "openai-community/gpt2-xl",
    "distilbert/distilgpt2",
    "EleutherAI/pythia-70m",
    "EleutherAI/pythia-160m",
    "EleutherAI/pythia-410m",
    "EleutherAI/pythia-1b",
    "EleutherAI/pythia-1.4b",
    "EleutherAI/pythia-2.8b",
    "EleutherAI/pythia-6.9b",
    "EleutherAI/pythia-12b",
    "EleutherAI/gpt-neo-125m",
    "EleutherAI/gpt-j-6b",
    "facebook/opt-125m",
    "facebook/opt-1.3b",
    "facebook/opt-2.7b",
    "facebook/opt-6.7b",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.2-1B",
    "mistralai/Mistral-7B-v0.1",
    "Qwen/Qwen2.5-0.5B",
    "Qwen/Qwen2.5-7B",
    "TinyLlama/TinyLlama_v1.1",
)


def near_names(name: str) -> list[str]:
    """Names like `name`, the most similar first, at most three: the owner left out, another case, a slip of the pen."""
    known = list(dict.fromkeys([*cached_models(), *WELL_KNOWN]))
    by_words = {words: full for full in known for words in (full.lower(), _last(full))}
    near = difflib.get_close_matches(name.lower(), by_words, n=6, cutoff=0.75)
    near += difflib.get_close_matches(_last(name), by_words, n=6, cutoff=0.85)
    return list(dict.fromkeys(by_words[words] for words in near if by_words[words] != name))[:3]


def cached_models() -> list[str]:
    """The models of the local cache, whole or not."""
    folders = Path(constants.HF_HUB_CACHE).glob("models--*")
    return sorted(folder.name.removeprefix("models--").replace("--", "/") for folder in folders)


def _last(name: str) -> str:
    """A model's name without its owner."""
    return name.rsplit("/", 1)[-1].lower()
