"""What is left open on the command line: the usual settings, or a published protocol's, which fixes its own."""

from dataclasses import dataclass

from selfrepair.ingest.text.packing import PACKED
from selfrepair.ingest.text.pairing import next_batch
from selfrepair.ingest.text.rushing2024 import RUSHING2024, SEQ_LEN
from selfrepair.ingest.text.sources import STDLIB
from selfrepair.warehouse.errors import SelfRepairError


@dataclass(frozen=True)
class Settings:
    """What becomes prompts, and how, and what is done to them."""

    dataset: str
    seq_len: int
    packing: str
    ablation: str


USUAL = Settings(dataset=STDLIB, seq_len=128, packing=PACKED, ablation="resample,mean,zero")
PROTOCOLS = {
    RUSHING2024: Settings(dataset="NeelNanda/pile-10k", seq_len=SEQ_LEN, packing=RUSHING2024, ablation="resample")
}
"""Each fixes all but the dataset, which may be another one."""


def settle(
    protocol: str | None,
    *,
    dataset: str | None,
    seq_len: int | None,
    packing: str | None,
    ablation: str | None,
    n_prompts: int,
) -> Settings:
    """What was asked for, filled up; None is what was left open.

    Raises SelfRepairError for an unknown protocol, and for what contradicts it.
    """
    settings = USUAL
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise SelfRepairError(f"--protocol {protocol} is unknown. Choose from {', '.join(PROTOCOLS)}.")
        settings = PROTOCOLS[protocol]
        asked = {"--seq-len": seq_len, "--packing": packing, "--ablation": ablation}
        fixed = {"--seq-len": settings.seq_len, "--packing": settings.packing, "--ablation": settings.ablation}
        for option, value in asked.items():
            if value is not None and value != fixed[option]:
                raise SelfRepairError(
                    f"--protocol {protocol} has {option} {fixed[option]}, and {option} {value} was asked for. "
                    "Leave one of them out."
                )
        next_batch(n_prompts)  # too few are found out before the model is loaded
    return Settings(
        dataset=settings.dataset if dataset is None else dataset,
        seq_len=settings.seq_len if seq_len is None else seq_len,
        packing=settings.packing if packing is None else packing,
        ablation=settings.ablation if ablation is None else ablation,
    )
