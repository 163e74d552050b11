-- Does ablation shrink the final norm's scale? The share of rows with S/S' above 1, for each ablation type.
--
-- Grain: run_id, ablation, population
-- Paper: section 4 (LayerNorm)
--
-- Parameters:
--   model, run_id

SELECT
    run_id,
    model,
    ablation,
    population,
    share_above_1,
    share_below_1,
    mean_ln_scale_ratio,
    mean_ln_scale_ratio_se,
    ln_scale_ratio_quantile_5,
    ln_scale_ratio_quantile_50,
    ln_scale_ratio_quantile_95,
    n_rows,
    n_clusters
FROM layernorm_ratio
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND level = 'model'
ORDER BY run_id, population, ablation
