"""Queries of the page Logit lens: SQL without parameters."""


def by_layer(run_id: int) -> str:
    """The logit lens after each layer: log-probability and rank of the target."""
    return (
        "SELECT\n    layer, mean_target_logprob, top1_share, top1_from_here_share, top10_share, median_rank,\n"
        "    mean_target_logit, n_rows\n"
        f"FROM logit_lens_by_layer\nWHERE run_id = {run_id}\nORDER BY layer"
    )


def repair_by_logit_lens(where: str) -> str:
    """Every head's self-repair where the logit lens after its layer is correct, and where it is still wrong."""
    return (
        "SELECT\n    label, layer, self_repair_difference, self_repair_difference_se,\n"
        "    mean_self_repair_wrong, mean_self_repair_right, n_wrong, n_right,\n"
        "    mean_direct_effect_wrong, mean_direct_effect_right\n"
        f"FROM repair_by_logit_lens\nWHERE {where}\nORDER BY layer, head"
    )


def agreement(run_id: int) -> str:
    """The agreement between measures of importance, for each ablation."""
    return (
        "SELECT ablation, measure_a, measure_b, spearman, top10_overlap, n_heads\n"
        f"FROM measure_agreement\nWHERE run_id = {run_id}\nORDER BY ALL"
    )
