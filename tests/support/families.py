"""Small random models of every supported family, large enough in every dimension that no two sizes coincide."""

import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    Qwen2Config,
)

VOCABULARY = 61


def _common(**more: int) -> dict[str, int]:
    return {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1, **more}


CONFIGS: dict[str, PretrainedConfig] = {
    "gpt2": GPT2Config(**_common(n_layer=3, n_embd=24, n_head=4, n_positions=32)),
    "pythia": GPTNeoXConfig(
        **_common(num_hidden_layers=3, hidden_size=32, num_attention_heads=4, intermediate_size=56),
        max_position_embeddings=32,
    ),
    "neox-sequential": GPTNeoXConfig(
        **_common(num_hidden_layers=2, hidden_size=32, num_attention_heads=4, intermediate_size=56),
        max_position_embeddings=32,
        use_parallel_residual=False,
    ),
    "opt": OPTConfig(
        **_common(num_hidden_layers=3, hidden_size=24, num_attention_heads=3, ffn_dim=40, max_position_embeddings=32),
        word_embed_proj_dim=24,
    ),
    "llama-grouped": LlamaConfig(
        **_common(
            num_hidden_layers=3, hidden_size=24, num_attention_heads=6, num_key_value_heads=2, intermediate_size=40
        ),
        max_position_embeddings=32,
    ),
    "qwen2": Qwen2Config(
        **_common(
            num_hidden_layers=2, hidden_size=24, num_attention_heads=4, num_key_value_heads=2, intermediate_size=40
        ),
        max_position_embeddings=32,
    ),
}


def build(name: str, dtype: torch.dtype = torch.float64):
    """A random model whose biases and gains are random too: nothing is 0 or 1 by default."""
    generator = torch.Generator().manual_seed(len(name))
    model = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation="sdpa").eval().to(torch.float64)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            gain = parameter.ndim == 1 and path.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if gain else 0.3 * noise)
    return model.to(dtype)
