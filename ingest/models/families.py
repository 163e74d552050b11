"""What of transformers' causal language models can be measured: for people, not for the code.

Nothing is decided here. `families.csv` has what a small random model of every architecture gave: the tests build them all, and
write it. Models on the hub are named below.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("families.csv")


@dataclass(frozen=True)
class Family:
    """A model type of transformers, or a variant of it: measured unless there is a `reason`, as `ingest` gives it."""

    name: str
    architecture: str
    norm: str = ""
    blocks: str = ""
    heads: str = ""
    experts: str = ""
    reason: str = ""

    @property
    def examples(self) -> tuple[str, ...]:
        """Hub ids."""
        return EXAMPLES.get(self.name, ())


def families() -> list[Family]:
    """The table."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [Family(**row) for row in csv.DictReader(file)]


EXAMPLES = {
    "gpt2": (
        "openai-community/gpt2",
        "openai-community/gpt2-medium",
        "openai-community/gpt2-large",
        "openai-community/gpt2-xl",
        "distilbert/distilgpt2",
    ),
    "gpt_neo": ("EleutherAI/gpt-neo-125m", "roneneldan/TinyStories-33M"),
    "gptj": ("EleutherAI/gpt-j-6b",),
    "gpt_neox": (
        "EleutherAI/pythia-160m",
        "EleutherAI/gpt-neox-20b",
        *(f"EleutherAI/pythia-{size}" for size in ("70m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")),
    ),
    "opt": ("facebook/opt-125m", "facebook/opt-1.3b", "facebook/opt-2.7b", "facebook/opt-6.7b"),
    "opt (norms after its parts)": ("facebook/opt-350m",),
    "bloom": ("bigscience/bloom-560m",),
    "llama": (
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-3.2-1B",
        "meta-llama/Llama-3.1-8B",
        "huggyllama/llama-7b",
        "TinyLlama/TinyLlama_v1.1",
    ),
    "mistral": ("mistralai/Mistral-7B-v0.1",),
    "qwen2": ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"),
    "qwen3": ("Qwen/Qwen3-0.6B",),
    "phi": ("microsoft/phi-2",),
    "phi3": ("microsoft/Phi-3-mini-4k-instruct",),
    "gemma": ("google/gemma-2b",),
    "gemma2": ("google/gemma-2-2b",),
    "gemma3_text": ("google/gemma-3-1b-pt", "google/gemma-3-270m"),
    "stablelm": ("stabilityai/stablelm-2-1_6b",),
    "falcon": ("tiiuae/falcon-7b",),
    "falcon (sequential)": ("tiiuae/falcon-rw-1b",),
    "falcon (new_decoder_architecture)": ("tiiuae/falcon-40b",),
    "starcoder2": ("bigcode/starcoder2-3b",),
    "olmo2": ("allenai/OLMo-2-0425-1B",),
    "cohere": ("CohereLabs/c4ai-command-r-v01",),
    "granite": ("ibm-granite/granite-3.3-2b-base",),
    "mamba": ("state-spaces/mamba-130m-hf",),
}
"""Models on the hub by family."""

NOT_BUILT = {
    "dots3_note": "its configuration fixes the width of its audio model; its text model is dots3_note_text",
    "gemma3n": "its vision model needs the package timm",
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"), "it drafts for another model, whose keys it reads"
    ),
    **dict.fromkeys(("musicgen", "musicgen_melody"), "its configuration holds two text models"),
}
"""Model types of which no small model can be built, and why."""
