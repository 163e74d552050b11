-- How noisy is one head? Spread of its self-repair within and between prompts, and the fit of change in logit on direct
-- effect.
--
-- Grain: run_id, ablation
-- Paper: section 4 (noise)
--
-- Parameters:
--   model, run_id, layer, head

SELECT
    run_id,
    model,
    label,
    ablation,
    self_repair_sd_within,
    self_repair_sd_between,
    overrepaired_share,
    slope,
    intercept,
    correlation,
    self_repair_quantile_5,
    self_repair_quantile_50,
    self_repair_quantile_95,
    repair_ratio_quantile_5,
    repair_ratio_quantile_50,
    repair_ratio_quantile_95,
    n_prompts,
    n_rows
FROM head_noise
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND layer = $layer
    AND head = $head
ORDER BY run_id, ablation
