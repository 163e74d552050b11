"""A measured unit as columns of the warehouse's tables of effects, tokens and prompts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from selfrepair.ingest.conventions import ABLATIONS, EFFECTS
from selfrepair.ingest.engine.ablation import HeadAblation
from selfrepair.ingest.runs.measured import Measured
from selfrepair.ingest.runs.plan import RunPlan, Unit
from selfrepair.ingest.text.tokenizing import token_texts

Columns = dict[str, Any]


def measurement_columns(plan: RunPlan, unit: Unit, measured: Measured) -> Columns:
    """`measured_rows` with their effects; `repair_post_norm` is NULL for a model without post-norms."""
    columns = measured_rows(unit, measured) | {
        name: measured.effects[..., index].flatten().numpy() for index, name in enumerate(EFFECTS)
    }
    if not plan.model.record.post_norms:
        columns["repair_post_norm"] = pa.nulls(len(columns["repair_post_norm"]), pa.float32())
    return columns


def positions(measured: Measured) -> NDArray[np.int16]:
    """The measured positions of each prompt."""
    first, n_positions = measured.first_position, measured.scale.shape[1]
    return np.arange(first, first + n_positions, dtype=np.int16)


def measured_rows(unit: Unit, measured: Measured) -> Columns:
    """One row per head ablation, prompt and position, ordered by layer, head, ablation, prompt, position."""
    n_head_ablations, n_prompts, n_positions, _ = measured.effects.shape
    return {
        name: np.repeat(key, n_prompts * n_positions) for name, key in head_keys(measured.head_ablations).items()
    } | {
        "prompt_id": np.tile(np.repeat(np.array(unit.prompt_ids, dtype=np.int32), n_positions), n_head_ablations),
        "pos": np.tile(positions(measured), n_head_ablations * n_prompts),
    }


def head_keys(head_ablations: Sequence[HeadAblation]) -> Columns:
    """The key columns of the ablated heads."""
    return {
        "ablation": np.array([ABLATIONS.index(ablated.ablation) for ablated in head_ablations], dtype=np.int8),
        "layer": np.array([ablated.layer for ablated in head_ablations], dtype=np.int16),
        "head": np.array([ablated.head for ablated in head_ablations], dtype=np.int16),
    }


def token_columns(plan: RunPlan, unit: Unit, measured: Measured) -> Columns:
    """One row per measured position of every prompt of the unit."""
    tokens = plan.prompts.tokens(unit.prompt_ids)
    n_prompts, n_positions = measured.scale.shape
    first = measured.first_position
    texts = np.array(token_texts(plan.model.tokenizer, tokens.flatten().tolist()), dtype=object).reshape(tokens.shape)
    prediction = measured.prediction
    return {
        "prompt_id": np.repeat(np.array(unit.prompt_ids, dtype=np.int32), n_positions),
        "pos": np.tile(positions(measured), n_prompts),
        "token_id": tokens[:, first:-1].flatten().astype(np.int32),
        "token": texts[:, first:-1].flatten(),
        "target_id": tokens[:, first + 1 :].flatten().astype(np.int32),
        "target": texts[:, first + 1 :].flatten(),
        "clean_logit": prediction.logit.flatten().float().numpy(),
        "clean_logprob": prediction.logprob.flatten().float().numpy(),
        "clean_rank": prediction.rank.flatten().numpy().astype(np.int32),
        "clean_entropy": prediction.entropy.flatten().float().numpy(),
        "clean_ln_scale": measured.scale.flatten().float().numpy(),
        **_foil_columns(plan, unit, n_prompts * n_positions),
    }


def _foil_columns(plan: RunPlan, unit: Unit, n_rows: int) -> Columns:
    """The foil of every prompt, which then has one row; empty where there are none."""
    foils = [foil for index in unit.prompt_ids if (foil := plan.prompts.prompts[index].foil) is not None]
    if not foils:
        return {"foil_id": [None] * n_rows, "foil": [None] * n_rows}
    return {"foil_id": foils, "foil": token_texts(plan.model.tokenizer, foils)}


def prompt_columns(plan: RunPlan, unit: Unit) -> Columns:
    """One row per prompt of the unit."""
    tokenizer = plan.model.tokenizer
    prompts = [plan.prompts.prompts[index] for index in unit.prompt_ids]
    partners = plan.prompts.partners
    return {
        "prompt_id": list(unit.prompt_ids),
        "document_id": [prompt.document for prompt in prompts],
        "partner_id": [None if partners is None else partners[index] for index in unit.prompt_ids],
        "token_ids": [list(prompt.tokens) for prompt in prompts],
        "text": [
            "".join(token_texts(None, prompt.tokens)) if tokenizer is None else tokenizer.decode(list(prompt.tokens))
            for prompt in prompts
        ],
    }
