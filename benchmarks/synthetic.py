"""Runs made up at random with the shape of real ones, as large as wanted, for the benchmarks of loading and asking.

Effects are heavy-tailed, of another size in every head, and answer to each other as in real runs: a part of what a head
loses comes back. The identity R = LayerNorm + attention + MLP holds on every row.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.records import CrosscheckCell, DatasetRecord, ModelRecord, RunRecord
from selfrepair.warehouse.schema import ABLATIONS

_ROWS_PER_UNIT = 600_000
_VOCABULARY = (
    "\n", "\n\n", "0", "1", "7", "42", "2026", ".", ",", "(", ")", ":", " =", "ing", "ed", "er", "tion",
    *(f" {word}" for word in ("the", "of", "and", "a", "in", "to", "is", "was", "it", "for", "with", "as", "self", "return")),
    *(f" word{i}" for i in range(400)),
    *(f"piece{i}" for i in range(300)),
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """How large a run is: `seq_len` tokens a prompt, all `n_layers` x `n_heads` heads ablated in every way."""

    n_prompts: int
    n_layers: int = 12
    n_heads: int = 12
    seq_len: int = 128
    ablations: tuple[str, ...] = ABLATIONS

    @property
    def n_rows(self) -> int:
        """Rows of measurements of the run."""
        return self.n_prompts * self.rows_per_prompt

    @property
    def rows_per_prompt(self) -> int:
        """Rows of measurements of one prompt."""
        return (self.seq_len - 1) * self.n_layers * self.n_heads * len(self.ablations)


def shape_of(n_rows: int) -> Shape:
    """The shape of about `n_rows` rows: GPT-2-small's heads, prompts of 128 tokens, three ablations."""
    return Shape(max(2, round(n_rows / Shape(1).rows_per_prompt)))


def write_run(root: Path, run_key: str, model: str, shape: Shape, seed: int = 0) -> PartsFolder:
    """Write all part files of a run below `root`."""
    prompts_per_unit = max(1, _ROWS_PER_UNIT // shape.rows_per_prompt)
    firsts = range(0, shape.n_prompts, prompts_per_unit)
    parts = PartsFolder(root, run_key)
    parts.start(_record(run_key, model, shape, len(firsts), seed))
    rng = np.random.default_rng((seed, 0))
    sizes = np.exp(rng.normal(-2.5, 0.8, (shape.n_layers, shape.n_heads)))
    tails = rng.uniform(1.8, 4.0, (shape.n_layers, shape.n_heads))
    for unit, first in enumerate(firsts):
        ids = np.arange(first, min(first + prompts_per_unit, shape.n_prompts))
        unit_rng = np.random.default_rng((seed, unit + 1))
        parts.write_unit(
            unit,
            first,
            _measurements(shape, ids, sizes, tails, unit_rng),
            *_text(shape, ids, unit_rng),
            identity_error_max=1e-5,
        )
    cells = [CrosscheckCell(0, 0, 0, shape.ablations[0], shape.seq_len - 1, 2e-5)]
    parts.write_crosscheck(0, 1, cells)
    return parts


def _measurements(
    shape: Shape, ids: np.ndarray, sizes: np.ndarray, tails: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray | pa.Array]:
    n_positions = shape.seq_len - 1
    codes = np.array([ABLATIONS.index(ablation) for ablation in shape.ablations])
    full = (shape.n_layers, shape.n_heads, len(codes), len(ids), n_positions)
    clean = (shape.n_layers, shape.n_heads, 1, len(ids), n_positions)
    size = sizes[:, :, None, None, None].astype(np.float32)

    def noise() -> np.ndarray:
        return rng.standard_normal(full, dtype=np.float32)

    strong = rng.random(clean, dtype=np.float32) < 0.15
    tail = (1 - rng.random(clean, dtype=np.float32)) ** (-1 / tails[:, :, None, None, None].astype(np.float32))
    direct = size * (0.3 * rng.standard_normal(clean, dtype=np.float32) + strong * tail)
    direct = np.round(np.broadcast_to(direct, full), 4)
    ablated = np.round(0.2 * size * noise(), 4)
    layernorm = np.round(0.25 * direct + 0.05 * size * noise(), 4)
    attention = np.round(0.10 * direct + 0.20 * size * noise(), 4)
    attention[-1] = 0
    mlp = np.round(0.15 * direct + 0.30 * size * noise(), 4)
    layer, head, code, prompt, pos = (
        np.broadcast_to(values.reshape([-1 if axis == i else 1 for axis in range(5)]), full).ravel()
        for i, values in enumerate((
            np.arange(shape.n_layers, dtype=np.int16),
            np.arange(shape.n_heads, dtype=np.int16),
            codes.astype(np.int8),
            ids.astype(np.int32),
            np.arange(n_positions, dtype=np.int16),
        ))
    )  # fmt: skip
    return {
        "ablation": code,
        "prompt_id": prompt,
        "pos": pos,
        "layer": layer,
        "head": head,
        "direct_effect": direct.ravel(),
        "ablated_direct_effect": ablated.ravel(),
        "logit_change": (ablated - direct + layernorm + attention + mlp).ravel(),
        "repair_layernorm": layernorm.ravel(),
        "repair_attention": attention.ravel(),
        "repair_mlp": mlp.ravel(),
        "ln_scale_ratio": (1 + 0.02 * direct + 0.01 * noise()).ravel(),
        "repair_post_norm": pa.nulls(direct.size, pa.float32()),
    }


def _text(
    shape: Shape, ids: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray | list[str]], dict[str, np.ndarray | list[str]]]:
    """The columns of `tokens` and of `prompts`."""
    token_ids = rng.integers(0, len(_VOCABULARY), (len(ids), shape.seq_len))
    n = len(ids) * (shape.seq_len - 1)
    tokens: dict[str, np.ndarray | list[str]] = {
        "prompt_id": np.repeat(ids, shape.seq_len - 1),
        "pos": np.tile(np.arange(shape.seq_len - 1), len(ids)),
        "token_id": token_ids[:, :-1].ravel(),
        "token": [_VOCABULARY[i] for i in token_ids[:, :-1].ravel()],
        "target_id": token_ids[:, 1:].ravel(),
        "target": [_VOCABULARY[i] for i in token_ids[:, 1:].ravel()],
        "clean_logit": rng.normal(8, 2, n),
        "clean_logprob": -rng.exponential(3, n),
        "clean_rank": rng.geometric(0.05, n),
        "clean_entropy": rng.exponential(4, n),
        "clean_ln_scale": rng.uniform(5, 50, n),
        "foil_id": [None] * n,
        "foil": [None] * n,
    }
    prompts: dict[str, np.ndarray | list[str]] = {
        "prompt_id": ids,
        "document_id": ids // 2,
        "partner_id": (ids + 1) % shape.n_prompts,
        "token_ids": token_ids,
        "text": ["".join(_VOCABULARY[i] for i in row) for row in token_ids],
    }
    return tokens, prompts


def _record(run_key: str, model: str, shape: Shape, n_units: int, seed: int) -> RunRecord:
    return RunRecord(
        run_key=run_key,
        model=ModelRecord(
            name=model,
            revision=None,
            checkpoint=None,
            architecture="GPT2LMHeadModel",
            n_layers=shape.n_layers,
            n_heads=shape.n_heads,
            n_kv_heads=shape.n_heads,
            d_model=64 * shape.n_heads,
            d_head=64,
            d_mlp=256 * shape.n_heads,
            d_vocab=len(_VOCABULARY),
            norm="layernorm",
            parallel_blocks=False,
            n_parameters=1,
            weights_sha256=f"{model}, made up",
        ),
        dataset=DatasetRecord(
            name="made-up", split=None, revision=None, packing="made up", seq_len=shape.seq_len, fingerprint=str(seed)
        ),
        n_prompts=shape.n_prompts,
        n_units=n_units,
        n_measurements=shape.n_rows,
        n_crosschecks=1,
        crosscheck_tolerance=1e-3,
        ablations=shape.ablations,
        given_heads=(),
        selected_heads=tuple(f"L{layer}H{head}" for layer in range(shape.n_layers) for head in range(shape.n_heads)),
        mechanisms=(),
        logit_of="next_token",
        seed=seed,
        dtype="float32",
        device="cpu",
        conventions="made-up",
        software={},
        started_at=datetime(2026, 1, 1),
    )
