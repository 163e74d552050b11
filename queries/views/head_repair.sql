-- Self-repair of every ablated head: means over the rows of a population, and three kinds of fraction.
--
-- Grain: run_id, ablation, population, layer, head
-- Paper: section 3 (Figure 1 in population top2; the scatter of direct effect against logit change in all)
--
-- Means are over the head's rows. Failed runs are left out; `selfrepair runs` shows which these are. Join runs and
-- models by run_id and model_id for how it was measured.

SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    head,
    label,
    depth,
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
WHERE level = 'head'
ORDER BY run_id, ablation, population, layer, head
