"""Queries of the page Neurons, about one ablated head and one MLP: SQL without parameters."""

from selfrepair.app.data.tokens import with_text
from selfrepair.warehouse.schema import CHANGE_SHARES

EXCEEDED = {f"{name}_share": share for name, share in CHANGE_SHARES.items()}
"""Columns of `neuron_sparsity` by the share of the direct effect that a change has to exceed [ratio]."""

SIGNED = [f"signed_{name}" for name in EXCEEDED]
"""The same in the paper's order, by the changes' sign."""

MAX_DOTS = 4_000
MAX_NEURONS = 500
MAX_ROWS_OF_NEURON = 50


def populations(run: str) -> str:
    """The populations in which the neurons of a run (condition `run`) were read."""
    return f"SELECT DISTINCT population\nFROM neuron_summary\nWHERE {run}\nORDER BY population"


def mlps(head: str) -> str:
    """Layers of the MLPs whose neurons were measured for a head (condition `head`)."""
    return f"SELECT mlp_layer\nFROM neuron_summary\nWHERE {head}\nORDER BY mlp_layer"


def summary(of_mlp: str) -> str:
    """The row of `neuron_summary` for a head and an MLP (condition `of_mlp`)."""
    return f"FROM neuron_summary\nWHERE {of_mlp}"


def consistency(of_mlp: str) -> str:
    """The row of `neuron_consistency` for them."""
    return f"FROM neuron_consistency\nWHERE {of_mlp}"


def curve(of_mlp: str) -> str:
    """The largest changes of neurons in a row, in order of size: means over rows."""
    return (
        f"SELECT nth, {', '.join(EXCEEDED)},\n    mean_nth_change, mean_cumulative_change, cumulative_share,\n"
        f"    {', '.join(SIGNED)},\n    mean_nth_repair, cumulative_change_share, cumulative_repair_share, n_rows\n"
        f"FROM neuron_sparsity\nWHERE {of_mlp}\nORDER BY nth"
    )


def effects(of_mlp: str) -> str:
    """Stored changes of neurons (condition `of_mlp` on `neuron_top_rows`): where there are many, a uniform random sample, the
    same one each time.
    """
    return (
        f"WITH stored AS (\n    FROM neuron_top_rows\n    WHERE {of_mlp}\n),\n"
        f"drawn AS (\n    FROM stored\n    USING SAMPLE reservoir({MAX_DOTS} ROWS) REPEATABLE (1)\n)\n"
        "SELECT\n    neuron, rank, token, target, clean_effect, ablated_effect, change, is_anti_erasure, direct_effect,\n"
        "    prompt_id, pos\n"
        "FROM drawn\nORDER BY prompt_id, pos, rank"
    )


def neurons(of_mlp: str) -> str:
    """The neurons that change most, those with most rows of anti-erasure first."""
    return (
        "SELECT\n    neuron, n_anti_erasure, n_stored, mean_change, mean_clean_effect, mean_ablated_effect,\n"
        "    share_of_mlp, n_first, n_rows\n"
        f"FROM anti_erasure\nWHERE {of_mlp}\nORDER BY n_anti_erasure DESC, n_stored DESC, neuron\nLIMIT {MAX_NEURONS}"
    )


def rows_of_neuron(of_mlp: str, neuron: int) -> str:
    """The rows in which a neuron changes most, with the text before them."""
    return with_text(
        "neuron_top_rows",
        f"{of_mlp} AND neuron = {neuron}",
        "abs(change) DESC",
        ["rank", "clean_effect", "ablated_effect", "change", "is_anti_erasure", "direct_effect"],
        MAX_ROWS_OF_NEURON,
    )
