"""Small random models of every supported family, large enough in every dimension that no two sizes coincide."""

import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
    Starcoder2Config,
)

from selfrepair.ingest.models.weights import attention_kind

VOCABULARY = 61


def _common(**more: int) -> dict[str, int]:
    return {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, **more}


def _gpt(**more: int) -> dict[str, int]:
    return _common(num_hidden_layers=3, hidden_size=32, num_attention_heads=4, intermediate_size=56, **more)


def _llama(**more: int) -> dict[str, int]:
    sizes = {"num_hidden_layers": 2, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    return _common(**{**sizes, "intermediate_size": 40, "max_position_embeddings": 32, **more})


CONFIGS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(**_common(n_layer=3, n_embd=24, n_head=4, n_positions=32)),
    "pythia": GPTNeoXConfig(**_gpt(max_position_embeddings=32)),
    "neox-sequential": GPTNeoXConfig(
        **_gpt(max_position_embeddings=32) | {"num_hidden_layers": 2}, use_parallel_residual=False
    ),
    "opt": OPTConfig(
        **_common(num_hidden_layers=3, hidden_size=24, num_attention_heads=3, ffn_dim=40, max_position_embeddings=32),
        word_embed_proj_dim=24,
    ),
    "llama-grouped": LlamaConfig(**_llama(num_hidden_layers=3, num_attention_heads=6)),
    "qwen2": Qwen2Config(**_llama()),
}
"""One of every shape: sequential and parallel blocks, joint and separate projections, both norms, grouped queries."""

MORE_CONFIGS: dict[str, PretrainedConfig] = {
    "gpt-neo": GPTNeoConfig(
        **_common(num_layers=2, hidden_size=24, num_heads=4, intermediate_size=56, max_position_embeddings=32),
        window_size=4,
        attention_types=[[["global", "local"], 1]],
    ),
    "gpt-j": GPTJConfig(**_common(n_layer=2, n_embd=32, n_head=4, n_positions=32, rotary_dim=4, n_inner=56)),
    "bloom": BloomConfig(**_common(n_layer=2, hidden_size=24, n_head=4)),
    "llama-3": LlamaConfig(
        **_llama(),
        tie_word_embeddings=True,
        rope_parameters={
            **{"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0},
            **{"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
        },
    ),
    "llama-biases": LlamaConfig(**_llama(), attention_bias=True),
    "mistral": MistralConfig(**_llama(sliding_window=4)),
    "qwen2-windows": Qwen2Config(**_llama(sliding_window=4, max_window_layers=1), use_sliding_window=True),
    "qwen3": Qwen3Config(**_llama(head_dim=8)),
    "phi": PhiConfig(**_gpt(max_position_embeddings=32) | {"num_hidden_layers": 2}, partial_rotary_factor=0.5),
    "phi-3": Phi3Config(**_llama(hidden_size=32, original_max_position_embeddings=32)),
    "gemma": GemmaConfig(**_llama(head_dim=8)),
    "stablelm": StableLmConfig(**_llama(hidden_size=32), partial_rotary_factor=0.5, use_qkv_bias=True),
    "stablelm-parallel": StableLmConfig(**_llama(hidden_size=32), use_parallel_residual=True),
    "falcon": FalconConfig(**_common(num_hidden_layers=2, hidden_size=24, num_attention_heads=6, ffn_hidden_size=40)),
    "falcon-sequential": FalconConfig(
        **_common(num_hidden_layers=2, hidden_size=24, num_attention_heads=6, ffn_hidden_size=40),
        multi_query=False,
        parallel_attn=False,
        alibi=True,
        bias=True,
    ),
    "starcoder2": Starcoder2Config(**_llama()),
}
"""The other families: what is theirs alone (windows, biases by distance, subsets of rotary dimensions, norms of queries)."""


def build(name: str, dtype: torch.dtype = torch.float64):
    """A random model whose biases and gains are random too: nothing is 0 or 1 by default."""
    generator = torch.Generator().manual_seed(len(name))
    config = (CONFIGS | MORE_CONFIGS)[name]
    model = (
        AutoModelForCausalLM.from_config(config, attn_implementation=attention_kind(config)).eval().to(torch.float64)
    )
    model.config.architectures = [type(model).__name__]  # as it is written with the weights
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            gain = parameter.ndim == 1 and path.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if gain else 0.3 * noise)
    return model.to(dtype)
