"""Rows that are exchanged as JSON: a run as it is known before measuring, with model and dataset, and cross-checked cells."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime
from typing import Any

from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.parts.manifest import RunStamp
from selfrepair.warehouse.parts.version_0_1 import current_mechanisms

_OF_A_MACHINE = ("device", "software", "started_at", "command", "checks", "run_name")
"""What of a run's record may change when another command or machine goes on with it, beside `n_crosschecks`."""

_ONCE_CROSSCHECKED = 64
"""Cells that every run cross-checked, if it had so many, when parts were first stamped."""

_RUN_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def is_run_key(name: str) -> bool:
    """True for a name that a run's folder can have."""
    return _RUN_KEY.fullmatch(name) is not None


@dataclass(frozen=True)
class ModelRecord:
    """One row of `models` without its number; the column comments in `schema` say what each field means."""

    name: str
    revision: str | None
    checkpoint: int | None
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    norm: str
    parallel_blocks: bool
    n_parameters: int
    weights_sha256: str
    config_sha256: str | None = None
    post_norms: bool = False


@dataclass(frozen=True)
class DatasetRecord:
    """One row of `datasets` without its number."""

    name: str
    split: str | None
    revision: str | None
    packing: str
    seq_len: int
    fingerprint: str


@dataclass(frozen=True)
class RunRecord:
    """One run as it is known before measuring.

    `n_prompts`, `n_units`, `n_measurements` (rows) and `n_crosschecks` (cells) are what the whole run will have, all
    shards together. Heads are written `L9H6`, mechanisms as `schema.MECHANISMS` names them. `crosscheck_tolerance` is in
    logits, `started_at` in UTC without a zone. `command` is the one that measures it, but for --db; None for `measure`.
    `tokenizer_sha256` is None without a tokenizer, and in records of earlier versions, as `checks` and `rows_in_unit`, which
    says how the run is cut, are in those. `run_name` is what the run is called, None: by its number.
    """

    run_key: str
    model: ModelRecord
    dataset: DatasetRecord
    n_prompts: int
    n_units: int
    n_measurements: int
    n_crosschecks: int
    crosscheck_tolerance: float
    ablations: tuple[str, ...]
    given_heads: tuple[str, ...]
    selected_heads: tuple[str, ...]
    mechanisms: tuple[str, ...]
    logit_of: str
    seed: int
    dtype: str
    device: str
    conventions: str
    software: dict[str, str]
    started_at: datetime
    command: str | None = None
    tokenizer_sha256: str | None = None
    checks: str | None = None
    rows_in_unit: int | None = None
    run_name: str | None = None

    def stamp(self) -> RunStamp:
        """What the run's parts are stamped with."""
        lasting = {name: value for name, value in asdict(self).items() if name not in _OF_A_MACHINE}
        cells = self.n_prompts * len(self.selected_heads) * len(self.ablations)
        lasting["n_crosschecks"] = min(_ONCE_CROSSCHECKED, cells)  # whatever it is: it decides no number
        if not self.model.post_norms:  # parts of a model without them were stamped before there was the field
            del lasting["model"]["post_norms"]
        if self.rows_in_unit is None:  # likewise
            del lasting["rows_in_unit"]
        return RunStamp(
            run_key=self.run_key,
            selfrepair=self.software.get("selfrepair", "unknown"),
            weights_sha256=self.model.weights_sha256,
            tokenizer_sha256=self.tokenizer_sha256,
            record_sha256=hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest(),
        )

    def to_json(self) -> str:
        """The record as indented JSON text; `from_json` reads it back."""
        return json.dumps({**asdict(self), "started_at": self.started_at.isoformat()}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "RunRecord":
        """The record that `to_json` wrote.

        Raises SelfRepairError when the text is not JSON, lacks a field that has no default or adds one: another version
        wrote it.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SelfRepairError(f"the record of a run is not JSON: {error}") from error
        found = _fields(cls, found)
        return cls(
            **{
                **found,
                "model": ModelRecord(**_fields(ModelRecord, found["model"])),
                "dataset": DatasetRecord(**_fields(DatasetRecord, found["dataset"])),
                "ablations": tuple(found["ablations"]),
                "given_heads": tuple(found["given_heads"]),
                "selected_heads": tuple(found["selected_heads"]),
                "mechanisms": current_mechanisms(found["mechanisms"]),
                "started_at": datetime.fromisoformat(found["started_at"]),
            }
        )


@dataclass(frozen=True)
class CrosscheckCell:
    """One (prompt, head, ablation) computed a second time: `n_rows` positions, largest difference [logits]."""

    prompt_id: int
    layer: int
    head: int
    ablation: str
    n_rows: int
    error_max: float


def _fields(record: type[Any], found: object) -> Mapping[str, Any]:
    wanted = {field.name for field in fields(record)}
    needed = {field.name for field in fields(record) if field.default is MISSING}
    if not isinstance(found, dict) or not needed <= found.keys() <= wanted:
        names = sorted((needed - found.keys()) | (found.keys() - wanted)) if isinstance(found, dict) else []
        raise SelfRepairError(
            f"the record of a run does not have the fields of a {record.__name__}"
            f"{': ' + ', '.join(names) + ' missing or unknown' if names else ''}; "
            "another version of selfrepair wrote it. Measure again with this version, or load with that one."
        )
    return found
