-- Do ablation types differ for one head? Its means and fractions under each of them.
--
-- Grain: run_id, ablation, population
-- Paper: section 3 (ablation types)
--
-- Parameters:
--   model, run_id, layer, head

SELECT
    run_id,
    model,
    label,
    ablation,
    population,
    mean_direct_effect,
    mean_removed_effect,
    mean_logit_change,
    mean_self_repair,
    mean_self_repair_se,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    total_fraction_of_effect,
    total_fraction_of_removed,
    n_rows,
    n_clusters
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND layer = $layer
    AND head = $head
ORDER BY run_id, population, ablation
