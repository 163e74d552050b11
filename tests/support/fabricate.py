"""Small runs made up by hand: they hold to every rule of the warehouse, and no two columns hold the same values."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from selfrepair.warehouse.parts.folder import PartsFolder
from selfrepair.warehouse.parts.manifest import MeasuredBy
from selfrepair.warehouse.parts.records import CrosscheckCell, DatasetRecord, ModelRecord, RunRecord
from selfrepair.warehouse.schema import ABLATIONS
from support.mechanisms import MECHANISMS, measured_frame, random_mechanisms

IDENTITY_ERROR = 1.25e-5
CROSSCHECK_ERROR = 3.5e-5


@dataclass(frozen=True)
class FabricatedUnit:
    """A unit as it goes into `PartsFolder.write_unit`."""

    unit: int
    first_prompt: int
    measurements: dict[str, np.ndarray]
    tokens: dict[str, np.ndarray | list[str]]
    prompts: dict[str, np.ndarray | list[str]]
    identity_error_max: float
    mechanisms: dict[str, pa.Table] = field(default_factory=dict)
    document_id: int | None = None


@dataclass(frozen=True)
class FabricatedRun:
    record: RunRecord
    units: list[FabricatedUnit]
    cells: list[CrosscheckCell]

    def write(self, root: Path, units: list[int] | None = None, crosscheck: bool = True) -> PartsFolder:
        """Write the run, all or some of its units, and its cross-check, as measuring would."""
        parts = PartsFolder(root, self.record.run_key)
        parts.start(self.record)
        for unit in self.units if units is None else [self.units[number] for number in units]:
            write_unit(parts, unit)
        if crosscheck:
            parts.write_crosscheck(0, 1, self.cells)
        return parts


def write_unit(parts: PartsFolder, unit: FabricatedUnit) -> None:
    parts.write_unit(
        unit.unit,
        unit.first_prompt,
        unit.measurements,
        unit.tokens,
        unit.prompts,
        unit.identity_error_max,
        unit.mechanisms,
        by=MeasuredBy("abacus", "beads:1", f"abacus:{100 + unit.unit}", 2.5 + unit.unit),
        document_id=unit.document_id,
    )


def fabricate(
    run_key: str = "run-a",
    *,
    n_units: int = 2,
    prompts_per_unit: int = 3,
    seq_len: int = 5,
    n_layers: int = 3,
    n_heads: int = 4,
    ablations: tuple[str, ...] = ABLATIONS,
    model: str = "tiny-model",
    parallel_blocks: bool = False,
    post_norms: bool = False,
    mechanisms: bool = False,
    seed: int = 11,
) -> FabricatedRun:
    """A whole run, decided by its arguments alone."""
    n_prompts = n_units * prompts_per_unit
    n_cells = n_layers * n_heads * len(ablations)
    units = [
        _unit(
            number,
            n_prompts,
            prompts_per_unit,
            seq_len,
            n_layers,
            n_heads,
            ablations,
            parallel_blocks,
            post_norms,
            np.random.default_rng((seed, number)),
        )
        for number in range(n_units)
    ]
    if mechanisms:
        units = _with_mechanisms(units, n_layers, n_heads, prompts_per_unit, seed)
    record = RunRecord(
        run_key=run_key,
        model=ModelRecord(
            name=model,
            revision="a1b2c3",
            checkpoint=143_000,
            architecture="TinyForCausalLM",
            n_layers=n_layers,
            n_heads=n_heads,
            n_kv_heads=2,
            d_model=24,
            d_head=6,
            d_mlp=96,
            d_vocab=509,
            norm="rmsnorm",
            parallel_blocks=parallel_blocks,
            post_norms=post_norms,
            n_parameters=31_415,
            weights_sha256=f"{model}'s weights",
            config_sha256=f"{model}'s configuration",
        ),
        dataset=DatasetRecord(
            name="tiny-text",
            split="heldout",
            revision="v7",
            packing="BOS in front, documents joined",
            seq_len=seq_len,
            fingerprint=f"{seed} prompts",
        ),
        n_prompts=n_prompts,
        n_units=n_units,
        n_measurements=n_prompts * (seq_len - 1) * n_cells,
        n_crosschecks=3,
        crosscheck_tolerance=2e-3,
        ablations=ablations,
        given_heads=("L0H3",),
        selected_heads=tuple(f"L{layer}H{head}" for layer in range(n_layers) for head in range(n_heads)),
        mechanisms=MECHANISMS if mechanisms else (),
        logit_of="next_token",
        seed=seed,
        dtype="float32",
        device="abacus",
        conventions="folded, centred",
        software={"torch": "2.13.0", "selfrepair": "0.1.0"},
        started_at=datetime(2026, 3, 4, 5, 6, 7, 890123),
        command=f"selfrepair ingest --model {model} --seed {seed}",
        rows_in_unit=600,
    )
    cells = [
        CrosscheckCell(0, 0, 1, ablations[0], seq_len - 1, CROSSCHECK_ERROR),
        CrosscheckCell(n_prompts - 1, n_layers - 1, 2, ablations[-1], seq_len - 1, CROSSCHECK_ERROR / 2),
        CrosscheckCell(n_prompts // 2, n_layers // 2, 3, ablations[-1], seq_len - 1, CROSSCHECK_ERROR / 4),
    ]
    return FabricatedRun(record, units, cells)


def _unit(
    number: int,
    n_prompts: int,
    prompts_per_unit: int,
    seq_len: int,
    n_layers: int,
    n_heads: int,
    ablations: tuple[str, ...],
    parallel_blocks: bool,
    post_norms: bool,
    rng: np.random.Generator,
) -> FabricatedUnit:
    first = number * prompts_per_unit
    ids = np.arange(first, first + prompts_per_unit)
    positions = np.arange(seq_len - 1)
    token_ids = rng.integers(0, 509, (prompts_per_unit, seq_len))
    codes = [ABLATIONS.index(ablation) for ablation in ablations]
    axes = np.meshgrid(np.arange(n_layers), np.arange(n_heads), codes, ids, positions, indexing="ij")
    layer, head, code, prompt_id, pos = (axis.ravel() for axis in axes)

    direct = rng.normal(0.5, 1.0, (n_layers, n_heads, 1, prompts_per_unit, seq_len - 1))
    direct = np.round(np.broadcast_to(direct, axes[0].shape).ravel(), 4)
    ablated, layernorm, attention, mlp = (
        np.round(rng.normal(mean, spread, len(layer)), 4)
        for mean, spread in ((-0.1, 0.3), (0.2, 0.2), (0.1, 0.4), (-0.3, 0.5))
    )
    last = layer == n_layers - 1
    attention[last] = 0.0
    if parallel_blocks:
        mlp[last] = 0.0
    post_norm = np.round(np.random.default_rng(number).normal(-0.2, 0.4, len(layer)), 4) if post_norms else 0.0
    n_tokens = prompts_per_unit * (seq_len - 1)
    return FabricatedUnit(
        unit=number,
        first_prompt=first,
        measurements={
            "ablation": code.astype(np.int8),
            "prompt_id": prompt_id.astype(np.int32),
            "pos": pos.astype(np.int16),
            "layer": layer.astype(np.int16),
            "head": head.astype(np.int16),
            "direct_effect": direct.astype(np.float32),
            "ablated_direct_effect": ablated.astype(np.float32),
            "logit_change": (ablated - direct + layernorm + attention + mlp + post_norm).astype(np.float32),
            "repair_layernorm": layernorm.astype(np.float32),
            "repair_attention": attention.astype(np.float32),
            "repair_mlp": mlp.astype(np.float32),
            "ln_scale_ratio": rng.normal(1.0, 0.02, len(layer)).astype(np.float32),
            "repair_post_norm": post_norm.astype(np.float32) if post_norms else np.full(len(layer), None),
        },
        tokens={
            "prompt_id": np.repeat(ids, seq_len - 1),
            "pos": np.tile(positions, prompts_per_unit),
            "token_id": token_ids[:, :-1].ravel(),
            "token": [f" t{i}" for i in token_ids[:, :-1].ravel()],
            "target_id": token_ids[:, 1:].ravel(),
            "target": [f" t{i}" for i in token_ids[:, 1:].ravel()],
            "clean_logit": rng.normal(8, 2, n_tokens),
            "clean_logprob": -rng.exponential(3, n_tokens),
            "clean_rank": rng.integers(1, 509, n_tokens),
            "clean_entropy": rng.exponential(4, n_tokens),
            "clean_ln_scale": rng.uniform(5, 50, n_tokens),
            "foil_id": [None] * n_tokens,
            "foil": [None] * n_tokens,
        },
        prompts={
            "prompt_id": ids,
            "document_id": ids // 2 + 70,
            **({"partner_id": (ids + 1) % n_prompts} if "resample" in ablations else {"partner_id": [None] * len(ids)}),
            "token_ids": token_ids,
            "text": ["".join(f" t{i}" for i in row) for row in token_ids],
        },
        identity_error_max=IDENTITY_ERROR * (number + 1) / 2,
    )


def _with_mechanisms(
    units: list[FabricatedUnit], n_layers: int, n_heads: int, prompts_per_unit: int, seed: int
) -> list[FabricatedUnit]:
    """The units with the rows of the mechanisms' tables, which are made for the whole run: its top 2 % is one set."""
    measured = pl.concat(measured_frame(unit.measurements) for unit in units)
    made = random_mechanisms(
        measured,
        n_layers=n_layers,
        n_heads=n_heads,
        prompts_per_unit=prompts_per_unit,
        prompts_in_document=2,
        seed=seed,
    )

    def of_unit(frame: pl.DataFrame, number: int) -> pa.Table:
        unit = pl.col("unit") if "unit" in frame.columns else pl.col("prompt_id") // prompts_per_unit
        return frame.filter(unit == number).drop("run_id").to_arrow()

    return [
        replace(unit, mechanisms={name: of_unit(frame, unit.unit) for name, frame in made.tables.items()})
        for unit in units
    ]
