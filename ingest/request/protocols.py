"""Settings that a request leaves out: the defaults, or a published protocol's, which fixes its own."""

from dataclasses import dataclass

from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.text.packing import PACKED
from selfrepair.ingest.text.rushing2024 import RUSHING2024, SEQ_LEN, next_batch
from selfrepair.ingest.text.sources import STDLIB
from selfrepair.warehouse.errors import SelfRepairError


@dataclass(frozen=True)
class Settings:
    """Which dataset, how it becomes prompts, and how heads are ablated on them."""

    dataset: str
    seq_len: int
    packing: str
    ablation: str


DEFAULTS = Settings(dataset=STDLIB, seq_len=128, packing=PACKED, ablation="resample,mean,zero")
PROTOCOLS = {
    RUSHING2024: Settings(dataset="NeelNanda/pile-10k", seq_len=SEQ_LEN, packing=RUSHING2024, ablation="resample")
}
"""Each fixes all but the dataset, which may be another one."""


def resolve_settings(request: IngestRequest) -> Settings:
    """The request's settings, with what it leaves out.

    Raises SelfRepairError for an unknown protocol, and for options that contradict it.
    """
    settings = DEFAULTS
    if request.protocol is not None:
        if request.protocol not in PROTOCOLS:
            raise SelfRepairError(f"--protocol {request.protocol} is unknown. Choose from {', '.join(PROTOCOLS)}.")
        settings = PROTOCOLS[request.protocol]
        for field in ("seq_len", "packing", "ablation"):
            value, fixed, option = getattr(request, field), getattr(settings, field), f"--{field.replace('_', '-')}"
            if value not in (None, fixed):
                raise SelfRepairError(
                    f"--protocol {request.protocol} fixes {option} {fixed}, but {option} {value} is given. "
                    "Leave one of them out."
                )
        next_batch(request.n_prompts)  # refuses too few before the model is loaded
    return Settings(
        *(default if (chosen := getattr(request, name)) is None else chosen for name, default in vars(settings).items())
    )
