"""What the page of iterations asks: SQL that runs as it stands."""


def by_layer(run_id: int) -> str:
    """How good the answer after each layer is."""
    return (
        "SELECT layer, mean_guess_logprob, right_share, settled_share, top10_share, median_rank, mean_guess_logit, n_rows\n"
        f"FROM guess_by_layer\nWHERE run_id = {run_id}\nORDER BY layer"
    )


def repair_by_guess(where: str) -> str:
    """Every head's self-repair where the answer after its layer is right, and where it is still wrong."""
    return (
        "SELECT\n    label, layer, self_repair_difference, self_repair_difference_se,\n"
        "    mean_self_repair_wrong, mean_self_repair_right, n_wrong, n_right,\n"
        "    mean_direct_effect_wrong, mean_direct_effect_right\n"
        f"FROM repair_by_guess\nWHERE {where}\nORDER BY layer, head"
    )


def agreement(run_id: int) -> str:
    """How far the measures of each ablation agree."""
    return (
        "SELECT ablation, measure_a, measure_b, spearman, top10_overlap, n_heads\n"
        f"FROM measure_agreement\nWHERE run_id = {run_id}\nORDER BY ALL"
    )
