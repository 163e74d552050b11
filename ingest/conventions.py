"""Conventions of every measurement: names, order and tolerances."""

from dataclasses import dataclass

from selfrepair.warehouse.schema import ABLATIONS, EFFECTS, IDENTITY_ERROR_LIMIT

__all__ = ["ABLATIONS", "CONVENTIONS", "EFFECTS", "N_CROSSCHECKS", "PRECISIONS", "Precision", "head_label"]

CONVENTIONS = "unfolded-1"
"""Version of the formulas in docs/measurement.md; a change that moves numbers changes it, and with it every run key."""

N_CROSSCHECKS = 64


@dataclass(frozen=True)
class Precision:
    """How a run computes, and how far rounding may take it.

    `torch_dtype` is what the layers compute in; the residual stream and every effect are kept in float32 or better.
    `weights_dtype` is what matrices are stored in, where that differs. `identity` and `crosscheck` are the largest allowed
    differences in logits, `preflight` the largest relative one.
    """

    name: str
    torch_dtype: str
    identity: float
    crosscheck: float
    preflight: float
    tf32: bool = False
    weights_dtype: str | None = None


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", "float32", identity=IDENTITY_ERROR_LIMIT, crosscheck=1e-3, preflight=1e-4),
        Precision("float64", "float64", identity=1e-6, crosscheck=1e-3, preflight=1e-6),
        Precision("tf32", "float32", identity=IDENTITY_ERROR_LIMIT, crosscheck=0.1, preflight=1e-2, tf32=True),
        Precision("bfloat16", "bfloat16", identity=IDENTITY_ERROR_LIMIT, crosscheck=2.0, preflight=5e-2),
        Precision(
            "bfloat16-weights",
            "float32",
            identity=IDENTITY_ERROR_LIMIT,
            crosscheck=1e-3,
            preflight=1e-4,
            weights_dtype="bfloat16",
        ),
        Precision("float16", "float16", identity=IDENTITY_ERROR_LIMIT, crosscheck=0.5, preflight=1e-2),
    )
}


def head_label(layer: int, head: int) -> str:
    """The field's name of a head, `L9H6`."""
    return f"L{layer}H{head}"
