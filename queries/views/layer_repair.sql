-- Self-repair of every layer's ablated heads together: means over their rows, and three kinds of fraction.
--
-- Grain: run_id, ablation, population, layer
-- Paper: section 3 (Figure 1, the lines)
--
-- Means are over rows: those of the layer's heads, pooled; for top2, each head's own top 2 %. The heads of a run have
-- equally many rows, so that a mean over heads is the same number. Failed runs are left out.

SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    depth,
    n_heads,
    n_rows,
    mean_direct_effect,
    mean_ablated_direct_effect,
    mean_removed_effect,
    mean_logit_change,
    mean_self_repair,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_ln_scale_ratio,
    clipped_layernorm_fraction,
    clipped_attention_fraction,
    clipped_mlp_fraction,
    clipped_total_fraction,
    layernorm_fraction_of_effect,
    attention_fraction_of_effect,
    mlp_fraction_of_effect,
    total_fraction_of_effect,
    layernorm_fraction_of_removed,
    attention_fraction_of_removed,
    mlp_fraction_of_removed,
    total_fraction_of_removed,
    undefined_ratios,
    repaired_share,
    overrepaired_share
FROM repair_means
WHERE level = 'layer'
ORDER BY run_id, ablation, population, layer
