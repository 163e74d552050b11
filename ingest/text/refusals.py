"""Errors of datasets and lengths that give no prompts."""

from selfrepair.ingest.text.documents import DocumentCounts
from selfrepair.ingest.text.packing import DOCUMENT, NONE, PACKED
from selfrepair.ingest.text.rushing2024 import RUSHING2024
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.schema import LONGEST_PROMPT


def check_takes_rows(name: str, packing: str, holds: str) -> None:
    """Raise SelfRepairError where rows of `holds`, which are prompts already, were to be packed like text."""
    if packing != PACKED:
        raise SelfRepairError(
            f"dataset '{name}' gives rows of {holds}, which are never packed; {_option(packing)} needs text. "
            "Leave it out."
        )


def check_length(seq_len: int, context: int | None, packing: str) -> None:
    """Raise SelfRepairError for prompts that the model cannot read, or that leave nothing to measure."""
    if context is not None and seq_len > context:
        step = f"Use --seq-len {context} or less."
        if packing == RUSHING2024:
            step = f"{_option(packing)} fixes it: choose another model."
        raise SelfRepairError(f"--seq-len {seq_len} is longer than the model's context of {context} tokens. {step}")
    if seq_len > LONGEST_PROMPT:
        raise SelfRepairError(
            f"--seq-len {seq_len} is longer than the {LONGEST_PROMPT} tokens that a warehouse takes. Use less."
        )
    if seq_len < 2:
        raise SelfRepairError(f"--seq-len {seq_len} leaves no position with a next token. Use 2 or more.")


def too_few(
    name: str, n_found: int, n_prompts: int, packing: str, seq_len: int, counts: DocumentCounts, holds: str
) -> SelfRepairError:
    """The error of a dataset that gives fewer prompts than --prompts."""
    unit = {NONE: f"rows of {holds}", DOCUMENT: "documents to measure"}.get(packing, f"rows of {seq_len} tokens")
    step = f"Use --prompts {n_found} or a larger dataset."
    if packing == RUSHING2024 or (packing == DOCUMENT and not n_found):
        step = "Use a larger dataset."
    elif not n_found:
        step = "Use a shorter --seq-len or a larger dataset."
    found = f"dataset '{name}' gives {n_found} {unit}, fewer than --prompts {n_prompts}."
    return SelfRepairError(" ".join((found, *counts.sentences(), step)))


def _option(packing: str) -> str:
    return f"--protocol {packing}" if packing == RUSHING2024 else f"--packing {packing}"
