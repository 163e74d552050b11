"""Queries about a run and the paper's published numbers: SQL without parameters."""

from selfrepair.queries.catalog.quoting import literal

HUB_IDS = {
    "gpt2-small": "gpt2",
    "gpt2-medium": "gpt2-medium",
    "pythia-160m": "EleutherAI/pythia-160m",
    "pythia-410m": "EleutherAI/pythia-410m",
}
"""Hub ids of the models with published numbers, by the paper's names."""

SHAPES = {"gpt2-small": (12, 12), "gpt2-medium": (24, 16), "pythia-160m": (12, 12), "pythia-410m": (24, 16)}
"""Their numbers of layers, and of heads per layer."""

QUANTITIES = (
    "direct_effect",
    "ablated_direct_effect",
    "logit_change",
    "self_repair",
    "repair_layernorm",
    "repair_attention",
    "repair_mlp",
    "clipped_layernorm_fraction",
    "clipped_attention_fraction",
    "clipped_mlp_fraction",
)
"""The published quantities of a head, in the order in which they are shown."""

_IN_ORDER = f"list_position([{', '.join(map(literal, QUANTITIES))}], quantity)"


def column_of(quantity: str) -> str:
    """The column of `head_repair` with the same quantity."""
    return quantity if quantity.startswith("clipped_") else f"mean_{quantity}"


def published_runs(run_id: int, population: str) -> str:
    """The authors' runs that the run is compared with, the one of the paper's figures first."""
    return (
        "SELECT published_model, published_run\nFROM reproduction_agreement\n"
        f"WHERE run_id = {run_id} AND population = {literal(population)}\n"
        "GROUP BY published_model, published_run\nORDER BY published_run <> 'default', published_run"
    )


def agreements(run_id: int, population: str, published_run: str) -> str:
    """The agreement of every quantity over heads, and the run-to-run agreement of the authors' own data."""
    return (
        "SELECT\n    quantity, verdict, spearman, authors_spearman, slope, mean_absolute_difference,\n"
        "    authors_mean_absolute_difference, n_heads, spearman_low, spearman_high, pearson, authors_pearson\n"
        "FROM reproduction_agreement\n"
        f"WHERE run_id = {run_id} AND population = {literal(population)} AND published_run = {literal(published_run)}\n"
        f"ORDER BY {_IN_ORDER}"
    )


def heads(run_id: int, population: str, published_run: str, quantity: str) -> str:
    """Every head's number in the run and in the paper, with an interval of two standard errors each way."""
    return (
        "SELECT\n    label, layer, published_value, measured_value, difference,\n"
        "    measured_value - 2 * measured_value_se AS low,\n    measured_value + 2 * measured_value_se AS high\n"
        "FROM reproduction\n"
        f"WHERE run_id = {run_id} AND population = {literal(population)} AND published_run = {literal(published_run)}\n"
        f"    AND quantity = {literal(quantity)}\nORDER BY layer, head"
    )


def claims(run_id: int) -> str:
    """The paper's claims, with their values in the run."""
    return (
        "SELECT\n    claim, verdict, reason, value, low, high, published_value, expected_above, margin, statement, n_heads,\n"
        "    n_published_heads, n_clusters\n"
        f"FROM reproduction_claims\nWHERE run_id = {run_id}\nORDER BY claim_number"
    )


def self_repression(run_id: int) -> str:
    """Self-repression slopes of the heads that the run and the authors both measured."""
    return (
        "SELECT\n    label, multiple, added_vector, slope, slope_low, slope_high, published_slope, difference, same_side,\n"
        "    n_rows, n_published_rows, generation, receiver\n"
        f"FROM self_repression_reproduction\nWHERE run_id = {run_id}\nORDER BY layer, head, added_vector, multiple, generation"
    )


def series(run_id: int, ablation: str) -> str:
    """The series of checkpoints that the run belongs to: series_id, or no row."""
    return (
        "SELECT DISTINCT series_id\nFROM repair_over_training\n"
        f"WHERE run_id = {run_id} AND ablation = {literal(ablation)}"
    )


def training(series_id: int, condition: str, measure: str) -> str:
    """One measure at every checkpoint of a series, for rows that meet `condition`, with its interval."""
    return (
        f"SELECT\n    checkpoint_place, checkpoint, level, layer, label, {measure},\n"
        f"    {measure}_low AS low,\n    {measure}_high AS high,\n"
        "    n_rows, n_prompts, run_id\nFROM repair_over_training\n"
        f"WHERE series_id = {series_id} AND {condition}\nORDER BY layer, checkpoint_place"
    )
