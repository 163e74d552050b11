"""What the page of who repairs whom asks: SQL that runs as it stands."""

from selfrepair.app.data.answers import MOST_ROWS
from selfrepair.queries.catalog.quoting import literal

MOST_BARS = 24
MOST_BACKUPS = 100


def targets(where: str) -> str:
    """All heads and MLPs that could change, in the order in which a forward passes them."""
    return (
        "SELECT DISTINCT target_label, target_layer, target_kind, target_head\nFROM who_repairs\n"
        f"WHERE {where}\nORDER BY target_layer, target_kind, target_head"
    )


def edges(where: str, least: str) -> str:
    """Changes of at least so many logits up or down, the largest first."""
    return (
        "SELECT\n    label, layer, head, target_label, target_kind, target_layer, target_head,\n"
        "    mean_change, standard_error, share_of_effect, n_rows\nFROM who_repairs\n"
        f"WHERE {where} AND abs(mean_change) >= {least}\n"
        f"ORDER BY abs(mean_change) DESC, layer, head, target_layer, target_kind, target_head\nLIMIT {MOST_ROWS}"
    )


def layers(where: str, kind: str) -> str:
    """The changes of all heads of a later layer together, or of its MLP, as `kind` says."""
    return (
        "SELECT layer, target_layer, mean_change, share_of_effect, n_heads\nFROM repair_matrix\n"
        f"WHERE {where} AND target_kind = {literal(kind)}\nORDER BY layer, target_layer"
    )


def counts(where: str, least: str) -> str:
    """n_pairs, all pairs of a head and what may repair it, and n_large, those that change by so much."""
    return (
        f"SELECT count(*) AS n_pairs, count(*) FILTER (abs(mean_change) >= {least}) AS n_large\n"
        f"FROM who_repairs\nWHERE {where}"
    )


def targets_of_head(where_head: str) -> str:
    """What changes most when a head, the condition `where_head`, is ablated; the interval is two standard errors wide on
    both sides.
    """
    return (
        "SELECT\n    target_label, target_kind, target_rank, mean_change, standard_error,\n"
        "    mean_change - 2 * standard_error AS low,\n    mean_change + 2 * standard_error AS high,\n"
        "    share_of_effect, n_rows\nFROM who_repairs\n"
        f"WHERE {where_head}\nORDER BY abs(mean_change) DESC, target_rank\nLIMIT {MOST_BARS}"
    )


def backups(where: str) -> str:
    """Heads that come in for others, those that do most for their own size first."""
    return (
        "SELECT\n    target_label, score, n_ablated, n_repaired, n_damaged, n_top3, expected_top3, mean_change, own_size,\n"
        f"    relative_change\nFROM backup_heads\nWHERE {where}\n"
        f"ORDER BY score DESC NULLS LAST, target_layer, target_head\nLIMIT {MOST_BACKUPS}"
    )


def hidden_backups(where: str) -> str:
    """Heads by how much more they write once the given ones are gone."""
    return (
        "SELECT\n    label, layer, growth_rank, base_mean_direct_effect, mean_direct_effect, direct_effect_growth,\n"
        "    direct_effect_growth_se, base_mean_logit_change, mean_logit_change, logit_change_growth, n_rows, base_run_id\n"
        f"FROM co_ablation\nWHERE {where}\nORDER BY growth_rank"
    )
