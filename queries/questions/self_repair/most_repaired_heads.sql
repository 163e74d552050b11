-- Which heads are repaired most? The highest mean self-repair first, with its parts.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (Figure 1)
--
-- Parameters:
--   model, run_id, ablation, population, at_most

SELECT
    run_id,
    model,
    label,
    mean_self_repair,
    mean_self_repair_se,
    total_fraction_of_effect,
    total_fraction_of_effect_low,
    total_fraction_of_effect_high,
    mean_direct_effect,
    mean_logit_change,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    n_rows,
    n_clusters,
    layer,
    head
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_self_repair DESC, layer, head) <= $at_most
ORDER BY run_id, mean_self_repair DESC, layer, head
