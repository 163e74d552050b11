"""The families that are known to be supported, and those known to be refused: for people, not for the code.

Nothing is decided here. The model adapter says where a model keeps its parts, and `preflight` proves on the weights that
they add up; a test builds a small model of every family below and checks its line.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A supported family.

    `examples` are hub ids, of which two are shown; `key_value_heads` says whether query heads share one.
    """

    name: str
    architecture: str
    examples: tuple[str, ...]
    norm: str
    blocks: str
    key_value_heads: str
    positions: str


@dataclass(frozen=True)
class RefusedFamily:
    """A family that is refused, with the reason as the error of `ingest` has it."""

    name: str
    architecture: str
    examples: tuple[str, ...]
    reason: str


EACH, SHARED = "one per head", "shared or one per head"
LAYERNORM, RMSNORM = "layernorm", "rmsnorm"
SEQUENTIAL, PARALLEL, EITHER = "sequential", "parallel", "sequential or parallel"

FAMILIES = (
    Family(
        "GPT-2",
        "GPT2LMHeadModel",
        (
            "openai-community/gpt2",
            "openai-community/gpt2-medium",
            "openai-community/gpt2-large",
            "openai-community/gpt2-xl",
            "distilbert/distilgpt2",
        ),
        LAYERNORM,
        SEQUENTIAL,
        EACH,
        "learned",
    ),
    Family(
        "GPT-Neo",
        "GPTNeoForCausalLM",
        ("EleutherAI/gpt-neo-125m", "roneneldan/TinyStories-33M"),
        LAYERNORM,
        SEQUENTIAL,
        EACH,
        "learned, local attention in every second layer",
    ),
    Family("GPT-J", "GPTJForCausalLM", ("EleutherAI/gpt-j-6b",), LAYERNORM, PARALLEL, EACH, "partial rotary"),
    Family(
        "GPT-NeoX, Pythia",
        "GPTNeoXForCausalLM",
        (
            "EleutherAI/pythia-160m",
            "EleutherAI/gpt-neox-20b",
            *(f"EleutherAI/pythia-{size}" for size in ("70m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")),
        ),
        LAYERNORM,
        EITHER,
        EACH,
        "partial rotary",
    ),
    Family(
        "OPT",
        "OPTForCausalLM",
        ("facebook/opt-125m", "facebook/opt-1.3b", "facebook/opt-2.7b", "facebook/opt-6.7b"),
        LAYERNORM,
        SEQUENTIAL,
        EACH,
        "learned",
    ),
    Family(
        "Bloom",
        "BloomForCausalLM",
        ("bigscience/bloom-560m",),
        LAYERNORM,
        SEQUENTIAL,
        EACH,
        "ALiBi",
    ),
    Family(
        "Llama 1 to 3",
        "LlamaForCausalLM",
        (
            "meta-llama/Llama-2-7b-hf",
            "meta-llama/Llama-3.2-1B",
            "meta-llama/Llama-3.1-8B",
            "huggyllama/llama-7b",
            "TinyLlama/TinyLlama_v1.1",
        ),
        RMSNORM,
        SEQUENTIAL,
        SHARED,
        "rotary",
    ),
    Family(
        "Mistral",
        "MistralForCausalLM",
        ("mistralai/Mistral-7B-v0.1",),
        RMSNORM,
        SEQUENTIAL,
        SHARED,
        "rotary, a sliding window in some versions",
    ),
    Family(
        "Qwen2", "Qwen2ForCausalLM", ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"), RMSNORM, SEQUENTIAL, SHARED, "rotary"
    ),
    Family(
        "Qwen3",
        "Qwen3ForCausalLM",
        ("Qwen/Qwen3-0.6B",),
        RMSNORM,
        SEQUENTIAL,
        SHARED,
        "rotary, QK norm per head",
    ),
    Family("Phi 1 and 2", "PhiForCausalLM", ("microsoft/phi-2",), LAYERNORM, PARALLEL, SHARED, "partial rotary"),
    Family("Phi 3", "Phi3ForCausalLM", ("microsoft/Phi-3-mini-4k-instruct",), RMSNORM, SEQUENTIAL, SHARED, "rotary"),
    Family("Gemma 1", "GemmaForCausalLM", ("google/gemma-2b",), RMSNORM, SEQUENTIAL, SHARED, "rotary"),
    Family(
        "StableLM",
        "StableLmForCausalLM",
        ("stabilityai/stablelm-2-1_6b",),
        LAYERNORM,
        EITHER,
        SHARED,
        "partial rotary",
    ),
    Family(
        "Falcon",
        "FalconForCausalLM",
        ("tiiuae/falcon-7b", "tiiuae/falcon-rw-1b", "tiiuae/falcon-40b"),
        LAYERNORM,
        EITHER,
        SHARED,
        "rotary or ALiBi",
    ),
    Family("StarCoder2", "Starcoder2ForCausalLM", ("bigcode/starcoder2-3b",), LAYERNORM, SEQUENTIAL, SHARED, "rotary"),
)
"""Known to be supported, the paper's families first."""

REFUSED = (
    RefusedFamily("Gemma 2", "Gemma2ForCausalLM", ("google/gemma-2-2b",), "normalises what attention or the MLP adds"),
    RefusedFamily(
        "Gemma 3", "Gemma3ForCausalLM", ("google/gemma-3-1b-pt",), "normalises what attention or the MLP adds"
    ),
    RefusedFamily(
        "OLMo 2", "Olmo2ForCausalLM", ("allenai/OLMo-2-0425-1B",), "normalises what attention or the MLP adds"
    ),
    RefusedFamily("OPT 350M", "OPTForCausalLM", ("facebook/opt-350m",), "normalises after its blocks"),
    RefusedFamily(
        "Cohere Command R",
        "CohereForCausalLM",
        ("CohereLabs/c4ai-command-r-v01",),
        "final norm and unembedding do not give the model's logits",
    ),
    RefusedFamily(
        "Granite",
        "GraniteForCausalLM",
        ("ibm-granite/granite-3.3-2b-base",),
        "attention and MLP outputs do not add up to the final residual stream",
    ),
    RefusedFamily("Mamba", "MambaForCausalLM", ("state-spaces/mamba-130m-hf",), "blocks have no attn, ln1, mlp"),
    RefusedFamily("T5, BART", "T5ForConditionalGeneration", ("google-t5/t5-small",), "it is an encoder-decoder"),
)
"""Known to be refused."""
