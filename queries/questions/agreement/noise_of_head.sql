-- How noisy is one head? Spread of its self-repair within and between prompts, and the fit of change in logit on direct
-- effect.
--
-- Grain: run_id, ablation
-- Paper: section 4 (noise)
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs
--   run_id INTEGER = NULL: Number of a run (see the list of runs); NULL: the model's run, or all
--   layer INTEGER: Layer of the head, from 0
--   head INTEGER: Number of the head in its layer, from 0

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
