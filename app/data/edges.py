"""Queries of the page Who repairs whom: SQL without parameters."""

from selfrepair.queries.catalog.quoting import literal
from selfrepair.queries.sandbox.served import MAX_ROWS

MAX_BARS = 24
MAX_BACKUPS = 100


def targets(where: str) -> str:
    """All heads and MLPs after an ablated head, in the order of the forward pass."""
    return (
        "SELECT DISTINCT target_label, target_layer, target_kind, target_head\nFROM who_repairs\n"
        f"WHERE {where}\nORDER BY target_layer, target_kind, target_head"
    )


def edges(where: str, minimum: str) -> str:
    """Mean changes of at least `minimum` logits up or down, the largest first."""
    return (
        "SELECT\n    label, layer, head, target_label, target_kind, target_layer, target_head,\n"
        "    mean_change, standard_error, share_of_effect, n_rows\nFROM who_repairs\n"
        f"WHERE {where} AND abs(mean_change) >= {minimum}\n"
        f"ORDER BY abs(mean_change) DESC, layer, head, target_layer, target_kind, target_head\nLIMIT {MAX_ROWS}"
    )


def layers(where: str, kind: str) -> str:
    """The changes of all heads of a later layer together (`kind` head), or of its MLP (mlp)."""
    return (
        "SELECT layer, target_layer, mean_change, share_of_effect, n_heads\nFROM repair_matrix\n"
        f"WHERE {where} AND target_kind = {literal(kind)}\nORDER BY layer, target_layer"
    )


def counts(where: str, minimum: str) -> str:
    """n_pairs, all pairs of an ablated head and a later head or MLP, n_large, those that change by `minimum` logits, and
    changes [logits], those of all pairs.
    """
    return (
        f"SELECT count(*) AS n_pairs, count(*) FILTER (abs(mean_change) >= {minimum}) AS n_large,\n"
        "    list(mean_change) AS changes\n"
        f"FROM who_repairs\nWHERE {where}"
    )


def targets_of_head(where_head: str) -> str:
    """What changes most when a head (condition `where_head`) is ablated, with its interval."""
    return (
        "SELECT\n    target_label, target_kind, target_rank, mean_change, standard_error,\n"
        "    mean_change_low AS low, mean_change_high AS high, verdict, margin, n_tested, share_of_effect, n_rows,\n"
        "    n_clusters\nFROM who_repairs\n"
        f"WHERE {where_head}\nORDER BY abs(mean_change) DESC, target_rank\nLIMIT {MAX_BARS}"
    )


def backups(where: str) -> str:
    """Backup heads: the highest score first."""
    return (
        "SELECT\n    target_label, score, score_low, score_high, n_ablated, n_repaired, n_damaged, n_top3, expected_top3,\n"
        f"    mean_change, own_size, relative_change\nFROM backup_heads\nWHERE {where}\n"
        f"ORDER BY score DESC NULLS LAST, relative_change DESC NULLS LAST, target_layer, target_head\nLIMIT {MAX_BACKUPS}"
    )


def hidden_backups(where: str) -> str:
    """Heads by how much their direct effect grows once the given heads are ablated."""
    return (
        "SELECT\n    label, layer, growth_rank, base_mean_direct_effect, mean_direct_effect, direct_effect_growth,\n"
        "    direct_effect_growth_low, direct_effect_growth_high, verdict, n_clusters, base_mean_logit_change,\n"
        "    mean_logit_change, logit_change_growth, n_rows, base_run_id\n"
        f"FROM co_ablation\nWHERE {where}\nORDER BY growth_rank"
    )


def rerouting(where: str) -> str:
    """How often each MLP with experts chooses others when a head is ablated, in the order of the forward pass."""
    return (
        "SELECT\n    label, layer, head, mlp_layer, rerouted_share, rerouted_share_low, rerouted_share_high,\n"
        "    replaced_share, mean_weight_distance, mean_change, mean_rerouted_change, mean_kept_change,\n"
        "    mean_shared_change, n_rows, n_clusters\n"
        f"FROM rerouting\nWHERE {where}\nORDER BY layer, head, mlp_layer\nLIMIT {MAX_ROWS}"
    )


def experts_of_head(where_head: str) -> str:
    """The experts that change most when a head (condition `where_head`) is ablated, whichever way."""
    return (
        "SELECT\n    'MLP' || mlp_layer || ', expert ' || expert AS expert_label, mean_change, mean_rerouted_change,\n"
        "    mean_kept_change, share_of_mlp, clean_rows, ablated_rows, n_rows, mlp_layer, expert\nFROM expert_repair\n"
        f"WHERE {where_head} AND clean_rows + ablated_rows > 0\n"
        f"ORDER BY abs(mean_change) DESC, mlp_layer, expert\nLIMIT {MAX_BARS}"
    )
