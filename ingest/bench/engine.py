"""Time the engine: against this machine's own matmul rate, the per-head hook method and TransformerLens' own patching, in one
process.
"""

import contextlib
import copy
import io
import json
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import click
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from transformer_lens import patching
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, GPTNeoXConfig, PretrainedConfig

from selfrepair.ingest.checks import hooks
from selfrepair.ingest.conventions import Precision
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.engine.batch_size import auto_batch_size
from selfrepair.ingest.engine.memory import keep_freed_memory, peak_memory_mb
from selfrepair.ingest.engine.timing import seconds
from selfrepair.ingest.models.adapter import ModelAdapter, adapt
from selfrepair.ingest.models.demo import DEMO
from selfrepair.ingest.models.weights import cast_parameters, use_fused_gelu
from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.devices import choose_device, choose_precision
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.request.selection import parse_batch_size
from selfrepair.ingest.runs.measurer import Measurer
from selfrepair.ingest.text.targets import next_token_targets

SHAPES: dict[str, PretrainedConfig] = {
    "gpt2-small": GPT2Config(),
    "pythia-160m": GPTNeoXConfig(
        vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
    ),
    "gemma3-270m": Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
    ),
    DEMO: GPT2Config(vocab_size=2048, n_positions=128, n_embd=192, n_layer=6, n_head=8),
}

MATMULS = 100
"""Products timed right before and after the engine; their median is the machine's rate."""

HOOKED_HEADS = 3
"""Heads that the hook method is timed on in each round; its time a head does not depend on the head."""

HOOKED_PROMPTS = 30
"""Most prompts that the hook method takes at once: the batch of the paper's own code."""


@dataclass(frozen=True)
class Figures:
    """What one benchmark found; rates are medians over rounds. A token-head is one position of one ablated head.

    The hook method runs two whole forwards a head (`checks.hooks`). The code released with Rushing & Nanda (2024) runs four:
    it also runs the partner prompts anew, twice for each head. TransformerLens' `patching.generic_activation_patch` runs one
    whole forward a head, for one number of all tokens: it says how much the logits change, and not what repairs. These are None
    where norms follow attention, behind which TransformerLens splits no heads.
    """

    shape: str
    dtype: str
    device: str
    threads: int
    seq_len: int
    prompts: int
    heads: int
    batch_size: int
    token_heads_per_s: float
    gflops: float
    matmul_peak_gflops: float
    share_of_peak: float
    hook_token_heads_per_s: float | None
    times_the_hook_method: float | None
    times_the_released_code: float | None
    times_transformer_lens: float | None
    peak_memory_mb: float
    torch: str
    python: str


def run(request: BenchRequest) -> None:
    """Measure, print a table, and write JSON where requested."""
    figures = measure(request)
    _print(figures)
    text = json.dumps(asdict(figures), indent=2)
    click.echo(text)
    if request.json_file is not None:
        request.json_file.write_text(text + "\n")


def measure(request: BenchRequest) -> Figures:
    """Time engine, matmul and hooks in turns, so that a machine whose speed drifts drifts for all."""
    keep_freed_memory()
    device = choose_device(request.device)
    precision = choose_precision(request.dtype, device)
    n_prompts, seq_len = request.n_prompts, request.seq_len
    adapter = model_of_shape(request.shape, precision, device)
    heads = first_heads(adapter, request.heads_per_layer)
    size = parse_batch_size(request.batch_size) or auto_batch_size(adapter, seq_len)
    measurer = Measurer(adapter, RunSettings(["resample"], heads, precision=precision), batch_size=size)
    tokens = torch.randint(0, adapter.d_vocab, (n_prompts, seq_len))
    hooked_prompts = min(n_prompts, HOOKED_PROMPTS)

    def engine() -> None:
        measurer.measure(next_token_targets(tokens), tokens.roll(1, 0)[:, :-1], range(n_prompts))

    others = [] if adapter.has_post_norms else _others(request.shape, tokens[:hooked_prompts], device)
    matmul, matmul_flops = _matmul(adapter, size * seq_len)
    rounds = []
    measurer.measure(next_token_targets(tokens[:1]), tokens[:1, :-1], range(1))  # warm-up, on part of the work
    for other in others[::2]:
        other()
    matmul()
    for _ in range(request.repeats):
        before = seconds(matmul, device, MATMULS)
        (engine_seconds,) = seconds(engine, device, 1)
        after = seconds(matmul, device, MATMULS)
        of_others = [seconds(other, device, 1)[0] for other in others]
        peak = matmul_flops / statistics.median(before + after)
        rounds.append((engine_seconds, peak, of_others))

    token_heads = len(heads) * n_prompts * (seq_len - 1)
    hooked_token_heads = HOOKED_HEADS * hooked_prompts * (seq_len - 1)
    per_head = token_heads / hooked_token_heads
    flops = _flops(adapter, heads, n_prompts, seq_len - 1)

    def times(other: int) -> float | None:
        if not others:
            return None
        return statistics.median(of_others[other] / engine for engine, _, of_others in rounds) * per_head

    return Figures(
        shape=request.shape,
        dtype=precision.name,
        device=device_name(device),
        threads=torch.get_num_threads(),
        seq_len=seq_len,
        prompts=n_prompts,
        heads=len(heads),
        batch_size=measurer.batch_size,
        token_heads_per_s=statistics.median(token_heads / engine for engine, *_ in rounds),
        gflops=statistics.median(flops / engine for engine, *_ in rounds) / 1e9,
        matmul_peak_gflops=statistics.median(peak for _, peak, _ in rounds) / 1e9,
        share_of_peak=statistics.median(flops / engine / peak for engine, peak, _ in rounds),
        hook_token_heads_per_s=(
            statistics.median(hooked_token_heads / of_others[0] for *_, of_others in rounds) if others else None
        ),
        times_the_hook_method=times(0),
        times_the_released_code=times(1),
        times_transformer_lens=times(2),
        peak_memory_mb=peak_memory_mb(device),
        torch=torch.__version__,
        python=platform.python_version(),
    )


def _others(shape: str, tokens: torch.Tensor, device: torch.device) -> list[Callable[[], None]]:
    """The hook method, the released code and TransformerLens' patching, each on `HOOKED_HEADS` heads of these prompts."""
    hooked = adapt(_random_model(shape).to(device), shape)
    bridge = hooks.boot(hooked)
    bridge.set_use_attn_result(True)  # every head's output re-projected in every forward, as in the paper's code
    hooked_heads = [
        HeadAblation(number * hooked.n_layers // HOOKED_HEADS, 0, "resample") for number in range(HOOKED_HEADS)
    ]
    with torch.no_grad():
        hooked_clean = hooks.run_clean(bridge, tokens.to(device))

    def by_hooks(partner_forwards: int = 0) -> None:
        with torch.no_grad():
            for ablated in hooked_heads:
                for _ in range(partner_forwards):
                    bridge.run_with_cache(hooked_clean.tokens.roll(1, 0))
                replacement = hooked_clean.head_values(ablated).roll(1, 0)
                hooks.measure_head_ablation(bridge, hooked_clean, ablated, replacement)

    def from_partner(z: Any, index: Any, clean: Any) -> Any:
        return patching.layer_head_vector_patch_setter(z, index, clean.roll(1, 0))

    def by_patching() -> None:
        bridge.set_use_attn_result(False)
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # it shows a bar of its own
            patching.generic_activation_patch(
                bridge,
                hooked_clean.tokens,
                hooked_clean.cache,
                lambda logits: logits[:, :-1].gather(-1, hooked_clean.tokens[:, 1:, None]).mean(),
                patch_setter=from_partner,
                activation_name="z",
                index_df=pd.DataFrame([(one.layer, one.head) for one in hooked_heads], columns=["layer", "head"]),
            )
        bridge.set_use_attn_result(True)

    return [by_hooks, lambda: by_hooks(partner_forwards=2), by_patching]


def first_heads(adapter: ModelAdapter, per_layer: int) -> list[tuple[int, int]]:
    """The first heads of every layer, `per_layer` at most."""
    return [(layer, head) for layer in range(adapter.n_layers) for head in range(min(per_layer, adapter.n_heads))]


def model_of_shape(shape: str, precision: Precision, device: torch.device) -> ModelAdapter:
    """The model of that shape with random weights, as an ingest would run it."""
    model = _random_model(shape)
    cast_parameters(model, getattr(torch, precision.torch_dtype))
    model = model.to(device)
    use_fused_gelu(model)
    return adapt(model, shape)


def _random_model(shape: str) -> Any:
    """The same model in every call."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(SHAPES[shape]), attn_implementation="sdpa").eval()


def _flops(adapter: ModelAdapter, heads: list[tuple[int, int]], n_prompts: int, positions: int) -> float:
    """Floating-point operations of the matrix products that the ablations need; the clean forward is not counted.

    Per position and layer: Q, K, V and output projections, causal attention scores and their weighted sum over half
    of the positions on average, and the MLP; per head its own difference times W_O.
    """
    d, inner = adapter.d_model, adapter.n_heads * adapter.d_head
    attention = 2 * d * (2 * inner + 2 * adapter.n_kv_heads * adapter.d_head) + 4 * inner * (positions + 1) / 2
    mlp = 2 * _mlp_matrices(adapter) * d * adapter.d_mlp
    total = 0.0
    for layer, _ in heads:
        above = adapter.n_layers - 1 - layer
        own = 0 if adapter.parallel_blocks else mlp
        total += above * (attention + mlp) + own + 2 * adapter.d_head * d
    return total * n_prompts * positions


def _mlp_matrices(adapter: ModelAdapter) -> int:
    """Matrices of an MLP, three where it is gated."""
    block = adapter.blocks[0]
    attention = set(map(id, block.attention.parameters()))
    shape = sorted((adapter.d_model, adapter.d_mlp))
    return sum(sorted(one.shape) == shape for one in block.module.parameters() if id(one) not in attention)


def _matmul(adapter: ModelAdapter, tokens: int) -> tuple[Callable[[], None], float]:
    """The product that the layers spend most time in, at the same precision, and its operations."""
    left = torch.randn(tokens, adapter.d_model, dtype=adapter.layer_dtype, device=adapter.device)
    right = torch.randn(adapter.d_model, adapter.d_mlp, dtype=adapter.layer_dtype, device=adapter.device)
    out = torch.empty(tokens, adapter.d_mlp, dtype=adapter.layer_dtype, device=adapter.device)

    def matmul() -> None:
        torch.mm(left, right, out=out)

    return matmul, 2.0 * tokens * adapter.d_model * adapter.d_mlp


def device_name(device: torch.device) -> str:
    """The device's name in tables."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or device.type


def _print(figures: Figures) -> None:
    table = Table(
        title=f"{figures.shape}, {figures.dtype}, {figures.device}, {figures.threads} threads", title_justify="left"
    )
    table.add_column("figure")
    table.add_column("value", justify="right")
    for label, value in (
        ("token-heads per second", f"{figures.token_heads_per_s:,.0f}"),
        ("rate [GFLOP/s]", f"{figures.gflops:,.0f}"),
        ("matmul rate of this run [GFLOP/s]", f"{figures.matmul_peak_gflops:,.0f}"),
        ("share of the matmul rate", f"{figures.share_of_peak:.0%}"),
        ("hook method, token-heads per second", _shown(figures.hook_token_heads_per_s, ",.0f")),
        ("times the hook method (two forwards per head)", _shown(figures.times_the_hook_method, ".1f")),
        ("times the paper's released code (four)", _shown(figures.times_the_released_code, ".1f")),
        ("times TransformerLens' patching (one, for one number)", _shown(figures.times_transformer_lens, ".1f")),
        ("peak memory [MB], all models", f"{figures.peak_memory_mb:,.0f}"),
    ):
        table.add_row(label, value)
    Console().print(table)


def _shown(value: float | None, form: str) -> str:
    return "not timed" if value is None else format(value, form)
