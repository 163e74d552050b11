"""A small random model of every causal language model that the installed transformers can build from a configuration, and
whether it can be measured: the rows of `ingest/models/families.csv`.

Write that file again with: python tests/support/sweep.py
"""

import csv
from dataclasses import asdict, fields
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from selfrepair.ingest import compat
from selfrepair.ingest.checks.preflight import preflight
from selfrepair.ingest.checks.reference import PlainForwards, eager_attention
from selfrepair.ingest.conventions import PRECISIONS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.models.adapter import ModelAdapter, adapt
from selfrepair.ingest.models.families import NOT_BUILT, TABLE, Family
from selfrepair.ingest.models.weights import attention_kind
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets
from selfrepair.warehouse.errors import SelfRepairError

VOCABULARY = 61
ABLATIONS = ("resample", "zero")
PARTNERS = [1, 2, 0]

SIZES: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    "encoder_layers": 1,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("embedding_size", "emb_dim", "input_embedding_size", "lru_width", "attention_hidden_size"), 32),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("num_decoder_layers", "num_encoder_layers"), 2),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "head_size", "kv_channels", "rotary_dim", "d_kv", "dim_head"), 8),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "dim_ff", "dff"), 40),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "d_inner"), 40),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(("expert_ffn_hidden_size", "intermediate_size_mlp"), 24),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"), 64),
    **dict.fromkeys(("sliding_window", "attention_window_size", "original_max_position_embeddings"), 64),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("bos_token_id", "eos_token_id"), 0),
    "pad_token_id": 1,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k", "num_experts_per_token"), 2),
    **dict.fromkeys(("num_shared_experts", "n_shared_experts", "n_group", "topk_group"), 1),
    **dict.fromkeys(("num_expert_group", "first_k_dense_replace", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 8),
    **{"index_n_heads": 2, "index_head_dim": 8, "index_topk": 64, "num_hash_layers": 0},
    **{"hidden_size_per_layer_input": 8, "mamba_d_state": 8, "mamba_n_heads": 4, "mamba_d_head": 16},
    **{"mamba_n_groups": 1, "mamba_num_heads": 4, "mamba_head_dim": 16, "state_size": 8, "time_step_rank": 4},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}
"""Sizes by the names that configurations have for them."""

_BERT = {"is_decoder": True}
_SHARED_KEYS = {
    **{"num_hidden_layers": 4, "layer_types": ["sliding_attention", "full_attention"] * 2},
    **{"global_head_dim": 16, "num_kv_shared_layers": 2, "final_logit_softcapping": 30.0, "sliding_window": 4},
}
"""Heads of two sizes, and two layers that read the keys and values of the two before them."""

OTHER_SIZES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    **dict.fromkeys(("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie"), _BERT),
    **dict.fromkeys(("megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer"), _BERT),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl"), _BERT),
    "xmod": {**_BERT, "default_language": "en_XX"},
    "blt": {"hidden_size_global": 32, "encoder_hash_byte_group_vocab": 32, "encoder_hash_byte_group_size": [2]},
    **{f"blt_{part}": {"hidden_size_global": 32} for part in ("global_transformer", "local_decoder", "local_encoder")},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2, "hidden_size": 32},
    },
    "dots3_note_text": {
        **{"swa_num_attention_heads": 2, "swa_num_key_value_heads": 2, "swa_q_lora_rank": 16, "swa_kv_lora_rank": 16},
        **{"swa_head_dim": 16, "swa_qk_nope_head_dim": 8, "swa_v_head_dim": 8, "num_key_value_heads": 4},
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "gemma3n_text": {"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0]},
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), _SHARED_KEYS),
    "jamba": {
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
        **{"use_mamba_kernels": False, "mamba_dt_rank": 4},
    },
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "kimi_linear": {
        "linear_attn_config": {
            **{"kda_layers": [1], "full_attn_layers": [2], "num_heads": 4, "head_dim": 8, "short_conv_kernel_size": 4}
        }
    },
    "longcat_flash": {"qk_head_dim": 16, "head_dim": 8},
    "mamba2": {"num_heads": 8},
    "minimax": {"layer_types": ["linear_attention", "full_attention"]},
    "nemotron_h": {
        **{"num_hidden_layers": 4, "layers_block_type": ["mamba", "attention", "mlp", "moe"]},
        **{"n_groups": 1, "ssm_state_size": 8, "moe_shared_expert_intermediate_size": 24},
    },
    "qwen4_exp_text": {
        **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 64},
        **{"indexer_compress_ratio": 4, "hc_lowrank": 8, "ngram_vocab_size_base": 61, "split_ngram_parts": 1},
    },
    "recurrent_gemma": {"num_hidden_layers": 3, "block_types": ["recurrent", "recurrent", "attention"]},
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "zamba": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid"] * 2, "attention_hidden_size": 64},
    "zamba2": {"num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid"] * 2, "attention_hidden_size": 64},
    "zaya": {"num_experts_per_tok": 1},
}
"""Sizes of single model types, and what else makes them small decoders with one layer of each kind."""

_SEQUENTIAL = {"parallel_attn": False, "alibi": True, "multi_query": False, "num_kv_heads": 4}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon (new_decoder_architecture)": ("falcon", {"new_decoder_architecture": True}),
    "falcon (sequential)": ("falcon", {**_SEQUENTIAL, "bias": True}),
    "gemma4_text (experts)": (
        "gemma4_text",
        {
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "hidden_size_per_layer_input": 0,
            "num_kv_shared_layers": 0,
            "attention_k_eq_v": True,
        },
    ),
    "gpt_neox (sequential)": ("gpt_neox", {"use_parallel_residual": False}),
    "opt (norms after its parts)": ("opt", {"do_layer_norm_before": False}),
    "stablelm (parallel)": ("stablelm", {"use_parallel_residual": True}),
}
"""Families that have models of another shape."""

FLOAT32_ONLY = {"xglm", "inkling2_text"}
"""Those whose own code does not run in float64."""

CASES = [*(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name not in NOT_BUILT), *VARIANTS]


class WithoutFloat32(TorchFunctionMode):
    """While it is on, nothing is cast to float32: many families do so whatever the model's type, and leave 1e-6 between one
    prompt at a time and several.
    """

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is torch.Tensor.float or (
            function in (torch.Tensor.to, torch.Tensor.type) and torch.float32 in (*arguments[1:2], _dtype(keywords))
        ):
            return arguments[0]
        if _dtype(keywords) is torch.float32 and arguments and isinstance(arguments[0], torch.Tensor):
            keywords = {**keywords, "dtype": arguments[0].dtype}
        return function(*arguments, **(keywords or {}))


def _dtype(keywords: dict[str, Any] | None) -> Any:
    return (keywords or {}).get("dtype")


def small_config(case: str) -> PretrainedConfig:
    """The smallest configuration of a model type, with one layer of each kind."""
    model_type, more = VARIANTS.get(case, (case, {}))
    return _small(CONFIG_MAPPING[model_type], more)


def _small(config_class: type[PretrainedConfig], more: dict[str, Any]) -> PretrainedConfig:
    usual, own = config_class(), OTHER_SIZES.get(config_class.model_type, {})
    parts = {
        name: _small(type(getattr(usual, name)), {})
        for name in config_class.sub_configs
        if name not in own and isinstance(getattr(usual, name, None), PretrainedConfig)
    }
    known = usual.to_dict()
    sizes = {name: size for name, size in SIZES.items() if name in known}
    if "kv_lora_rank" in known:  # keys and values of one latent vector
        sizes |= {"num_key_value_heads": 4}
        sizes.pop("head_dim", None)
    kinds_of_layers = [
        known[name] for name in ("layer_types", "mlp_layer_types", "layers_block_type") if known.get(name)
    ]
    if kinds_of_layers:
        n_layers = max(2, *(len(set(kinds)) for kinds in kinds_of_layers))
        for name in ("layer_types", "mlp_layer_types", "layers_block_type"):
            if known.get(name):
                sizes[name] = (list(dict.fromkeys(known[name])) * n_layers)[:n_layers]
        sizes |= {name: n_layers for name in ("num_hidden_layers", "n_layer", "num_layers") if name in sizes}
    return config_class(**{**sizes, **parts, **own, **more})


def build(case: str) -> PreTrainedModel:
    """A random model whose biases and gains are random too: nothing is 0 or 1 by default."""
    config = small_config(case)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention_kind(config)).eval()
    model = model.to(torch.float32 if case in FLOAT32_ONLY else torch.float64)
    compat.use_plain_experts(model)
    model.config.architectures = [type(model).__name__]  # as it is written with the weights
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if parameter.is_floating_point():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                is_gain = parameter.ndim == 1 and path.endswith("weight")
                parameter.copy_(1 + 0.3 * noise if is_gain else 0.3 * noise)
        for path, buffer in model.named_buffers():
            if path.endswith("layer_scalar"):
                buffer.copy_(1 + 0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))
    return model


def prompts() -> torch.Tensor:
    """Three prompts of 8 tokens."""
    return torch.randint(2, VOCABULARY, (3, 8), generator=torch.Generator().manual_seed(0))


def adapted(model: PreTrainedModel) -> ModelAdapter:
    """The adapter of a model that passes `preflight`. Raises SelfRepairError for others."""
    adapter = adapt(model, "small")
    prove(adapter)
    return adapter


def prove(adapter: ModelAdapter) -> None:
    """Run `preflight`."""
    precision = PRECISIONS[str(adapter.layer_dtype).removeprefix("torch.")]
    preflight(adapter, prompts(), precision, "small")


def measured(adapter: ModelAdapter) -> torch.Tensor:
    """Effects of every head by two ablations, as a run measures them [head ablation, prompt, pos, effect]."""
    measurer = Measurer(adapter, RunSettings(ABLATIONS, adapter.heads), batch_size=7)
    found = measurer.measure(next_token_targets(prompts()), prompts()[PARTNERS][:, :-1], range(3))
    by_name = dict(zip(found.head_ablations, found.effects, strict=True))
    return torch.stack([by_name[one] for one in sorted(by_name, key=str)])


def expected(adapter: ModelAdapter) -> torch.Tensor:
    """The same by whole forwards of the plain modules with hooks."""
    with torch.no_grad(), eager_attention(adapter):
        forwards = PlainForwards(adapter)
        clean = [forwards.clean(next_token_targets(row[None])) for row in prompts()]
        by_prompt = []
        for number, partner in enumerate(PARTNERS):
            new = {"resample": clean[partner].head_values, "zero": lambda head: forwards.value_biases[head]}
            named = [HeadAblation(*head, ablation) for head in adapter.heads for ablation in ABLATIONS]
            named.sort(key=str)
            rows = [((one.layer, one.head), new[one.ablation]((one.layer, one.head))) for one in named]
            by_prompt.append(forwards.measure(clean[number], rows))
        return torch.stack(by_prompt, dim=1)


def family(case: str, model: PreTrainedModel, adapter: ModelAdapter | None, refusal: SelfRepairError | None) -> Family:
    """The row of a model in the table."""
    if adapter is None:
        reason = str(refusal).removeprefix("model 'small' cannot be measured: ").partition(". Supported models")[0]
        return Family(case, type(model).__name__, reason=reason)
    n_with_heads = sum(block.output_projection is not None for block in adapter.blocks)
    has_experts = any(type(module).__name__.endswith("Experts") for module in model.modules())
    return Family(
        case,
        type(model).__name__,
        adapter.norm,
        ("parallel" if adapter.parallel_blocks else "sequential")
        + (", post-norms" if adapter.has_post_norms else "")
        + (", stream multiplied" if adapter.multiplies_stream else "")
        + (", a branch after the MLP" if any(block.branch for block in adapter.blocks) else "")
        + (", recurrences beside attention" if any(block.beside for block in adapter.blocks) else ""),
        ("shared or own keys" if adapter.n_kv_heads < adapter.n_heads else "own keys")
        + ("" if n_with_heads == adapter.n_layers else ", layers without heads")
        + (", of several numbers" if len({block.n_heads for block in adapter.blocks}) > 1 else "")
        + (", of several sizes" if len({block.d_head for block in adapter.blocks}) > 1 else "")
        + (", keys shared by layers" if adapter.shares_keys else ""),
        "yes" if any(block.experts for block in adapter.blocks) else "not told apart" if has_experts else "",
    )


def row_of(case: str) -> Family:
    """Build a model and see whether it can be measured."""
    model = build(case)
    with WithoutFloat32():
        try:
            return family(case, model, adapted(model), None)
        except SelfRepairError as error:
            return family(case, model, None, error)


if __name__ == "__main__":
    logging.set_verbosity_error()
    rows = [asdict(row_of(case)) for case in CASES]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Family)], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
