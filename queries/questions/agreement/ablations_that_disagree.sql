-- For which heads does it matter how they are ablated? The widest range of mean self-repair first.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (ablation types)
--
-- Runs that measured a single ablation type have no range and are left out. How far whole runs agree:
-- ablation_agreement.
--
-- Parameters:
--   model, run_id, population, at_most
--
-- Columns:
--   self_repair_range DOUBLE: Highest minus lowest mean_self_repair among the ablations [logits]
--   under_resample DOUBLE: mean_self_repair under resample; NULL: not measured [logits]
--   under_mean DOUBLE: mean_self_repair under mean; NULL: not measured [logits]
--   under_zero DOUBLE: mean_self_repair under zero; NULL: not measured [logits]

SELECT
    run_id,
    model,
    label,
    max(mean_self_repair) - min(mean_self_repair) AS self_repair_range,
    max(mean_self_repair) FILTER (ablation = 'resample') AS under_resample,
    max(mean_self_repair) FILTER (ablation = 'mean') AS under_mean,
    max(mean_self_repair) FILTER (ablation = 'zero') AS under_zero,
    max(n_rows) AS n_rows,
    layer,
    head
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND population = coalesce($population, default_population(run_id))
GROUP BY run_id, model, label, layer, head
HAVING count(*) > 1
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY self_repair_range DESC, layer, head) <= $at_most
ORDER BY run_id, self_repair_range DESC, layer, head
