-- Does the output change less than the head gave? Mean direct effect and change in logit of every head.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (the scatter of mean direct effect against mean logit change)
--
-- Without self-repair, ablating a head changes the logit by -mean_removed_effect. A change that is less negative is
-- self-repair, one that is more negative is breakage: the rest of the model adds to the damage.
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs, one below the other
--   run_id INTEGER = NULL: Number of a run, as selfrepair runs lists it; NULL: the model's run, or all
--   ablation resample|mean|zero = resample: What the head's output is replaced by
--   population all|top2|top2_nobos = all: Which rows of a head (selfrepair describe head_repair)
--
-- Columns:
--   verdict VARCHAR: 'self-repaired' or 'breakage' where mean_self_repair is more than two standard errors above or
--     below 0, else 'undecided'; NULL: a single prompt has no standard error

SELECT
    run_id,
    model,
    label,
    mean_direct_effect,
    mean_removed_effect,
    mean_logit_change,
    mean_self_repair,
    mean_self_repair_se,
    CASE
        WHEN mean_self_repair > 2 * mean_self_repair_se THEN 'self-repaired'
        WHEN mean_self_repair < -2 * mean_self_repair_se THEN 'breakage'
        WHEN mean_self_repair_se IS NOT NULL THEN 'undecided'
    END AS verdict,
    layer,
    head,
    depth
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
ORDER BY run_id, layer, head
