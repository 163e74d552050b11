-- Whether ablation shrinks the final norm's scale: the distribution of S/S', clean over ablated, by head and over a
-- whole run.
--
-- Grain: run_id, ablation, population, level, layer, head
-- Headline: level, label, mean_ln_scale_ratio, share_above_1, ln_scale_ratio_quantile_50, n_rows
-- Paper: section 4 (LayerNorm)
--
-- Above 1 the scale shrank, and every surviving logit grew by that factor. A quantile is an observed value: the lowest
-- one that at least its share of the rows does not exceed. Ratios of exactly 1 are in neither share. Failed runs are
-- left out.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions, or 'top2', the 2 % with the highest clean direct_effect
--   level VARCHAR: What a row describes: 'head', or 'model' (layer, head and label are NULL), which pools the rows of
--     all its heads

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    level,
    repair_means.layer,
    repair_means.head,
    head_label(repair_means.layer, repair_means.head) AS label,
    n_rows,
    n_clusters,
    mean_ln_scale_ratio,
    mean_ln_scale_ratio_se,
    ln_scale_ratio_quantile_1,
    ln_scale_ratio_quantile_5,
    ln_scale_ratio_quantile_25,
    ln_scale_ratio_quantile_50,
    ln_scale_ratio_quantile_75,
    ln_scale_ratio_quantile_95,
    ln_scale_ratio_quantile_99,
    share_above_1,
    share_below_1
FROM repair_means
INNER JOIN layernorm_numbers USING (run_id, ablation, population, level)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE
    layernorm_numbers.layer IS NOT DISTINCT FROM repair_means.layer
    AND layernorm_numbers.head IS NOT DISTINCT FROM repair_means.head
    AND runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, level, repair_means.layer, repair_means.head
