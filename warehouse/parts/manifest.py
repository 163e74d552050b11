"""What a finished unit holds: its tables, and the manifest that vouches for their files."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

PART_TABLES = ("prompts", "tokens", "measurements")
"""The tables that each unit brings rows for."""

MECHANISM_TABLES = (
    "neuron_changes",
    "neuron_curves",
    "neuron_sums",
    "edge_sums",
    "logit_lens",
    "logprob_changes",
    "self_repression",
    "self_repression_sums",
)
"""The tables that a unit brings where the run measures mechanisms."""

MANIFEST = "manifest.json"
"""Name of the file that makes a unit finished."""


@dataclass(frozen=True)
class PartFile:
    """What a manifest says about one file of its unit."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished unit holds. `identity_error_max` is in logits, `measured_at` in UTC without a zone."""

    unit: int
    first_prompt: int
    n_prompts: int
    identity_error_max: float
    measured_at: datetime
    files: dict[str, PartFile]

    def to_json(self) -> str:
        """The manifest as JSON text; `from_json` reads it back."""
        return json.dumps({**asdict(self), "measured_at": self.measured_at.isoformat()}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest that `to_json` wrote; ValueError, KeyError or TypeError when it is none."""
        found = json.loads(text)
        return cls(
            **{
                **found,
                "measured_at": datetime.fromisoformat(found["measured_at"]),
                "files": {name: PartFile(**entry) for name, entry in found["files"].items()},
            }
        )
