"""What a finished unit holds: its tables, and the manifest that vouches for their files."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from math import inf
from typing import Any

MANIFEST = "manifest.json"
"""Name of the file that makes a unit finished."""


@dataclass(frozen=True)
class PartFile:
    """What a manifest says about one file of its unit."""

    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class MeasuredBy:
    """Who measured a unit, in how many seconds: `worker` names a process on the machine `host`, as `host:pid`."""

    host: str
    device: str
    worker: str
    seconds: float


@dataclass(frozen=True)
class RunStamp:
    """Which run a part is of and what measured it: `selfrepair` is the package's version, `tokenizer_sha256` None without a
    tokenizer, `record_sha256` a digest of all that the run's record says whatever machine goes on with it.
    """

    run_key: str
    selfrepair: str
    weights_sha256: str
    tokenizer_sha256: str | None
    record_sha256: str

    def difference(self, other: "RunStamp") -> str | None:
        """What is not the same in a part that has this stamp and in a run whose stamp is `other`, in words; None: nothing."""
        if self.run_key != other.run_key:
            return f"is of run {self.run_key}, not of run {other.run_key}"
        if self.selfrepair != other.selfrepair:
            return f"was measured by selfrepair {self.selfrepair}, and the run's record is of selfrepair {other.selfrepair}"
        if self.weights_sha256 != other.weights_sha256:
            return "was measured with other weights than those of the run's record"
        if self.tokenizer_sha256 != other.tokenizer_sha256:
            return "was measured with another tokenizer than that of the run's record"
        return None if self == other else "was measured for another run.json than the one beside it, which was altered"


def difference(part: RunStamp | None, run_key: str, run: RunStamp | None) -> str | None:
    """What is not the same in a part that has the stamp `part` and in the run `run_key`, in words; None: nothing.

    Only the key is compared where `run`, the run's own stamp, is not known. A part of an earlier version has no stamp.
    """
    return part.difference(run or replace(part, run_key=run_key)) if part else None


def sealed(content: dict[str, Any]) -> str:
    """JSON text of `content` with a digest of it, which `unsealed` checks."""
    return json.dumps({**content, "sha256": _digest(content)}, indent=1)


def unsealed(text: str) -> dict[str, Any]:
    """What `sealed` was given; ValueError when it was altered. A text of an earlier version has no digest."""
    try:
        found: dict[str, Any] = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    digest = found.pop("sha256", None)
    if digest not in (None, _digest(found)):
        raise ValueError("it was altered after it was written")
    return found


_sorted = json.JSONEncoder(sort_keys=True).encode
"""Made once: `json.dumps` makes one anew for each text, and takes twice the time."""


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(_sorted(content).encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """What a finished unit holds. `identity_error_max` is in logits, `measured_at` in UTC without a zone; `run` and `by` are
    None in parts of earlier versions. `document_id` is the document of which it holds a part, None where it holds whole ones.
    """

    unit: int
    first_prompt: int
    n_prompts: int
    identity_error_max: float
    measured_at: datetime
    files: dict[str, PartFile]
    run: RunStamp | None = None
    by: MeasuredBy | None = None
    document_id: int | None = None

    def to_json(self) -> str:
        """The manifest as JSON text; `from_json` reads it back."""
        return sealed({**asdict(self), "measured_at": self.measured_at.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """The manifest that `to_json` wrote; ValueError, KeyError or TypeError when it is none."""
        found = unsealed(text)
        return cls(
            **{
                **found,
                "measured_at": datetime.fromisoformat(found["measured_at"]),
                "files": {name: PartFile(**entry) for name, entry in found["files"].items()},
                "run": RunStamp(**found["run"]) if found.get("run") else None,
                "by": _measured_by(**found["by"]) if found.get("by") else None,
            }
        )


def _measured_by(host: object, device: object, worker: object, seconds: object) -> MeasuredBy:
    is_named = isinstance(host, str) and isinstance(device, str) and isinstance(worker, str)
    if not (is_named and isinstance(seconds, int | float) and 0 <= seconds < inf):
        raise ValueError("who measured it cannot be told")
    return MeasuredBy(str(host), str(device), str(worker), seconds)
