-- Does the logit change less than the direct effect drops? Mean direct effect and change in logit of every head.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (the scatter of mean direct effect against mean logit change)
--
-- Without self-repair, ablating a head changes the logit by -mean_removed_effect. Where the rest of the model undoes a
-- part of that change, the head is self-repaired; where it adds to it, that is breakage. For a head that pushes the
-- correct token down (mean_removed_effect < 0), self-repair is negative.
--
-- Parameters:
--   model, run_id, ablation, population = all
--
-- Columns:
--   verdict VARCHAR: 'self-repaired' or 'breakage' where mean_self_repair and mean_removed_effect are both more than two
--     standard errors from 0, else 'undecided'; NULL: a single prompt has no standard error

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
        WHEN mean_self_repair_se IS NULL THEN NULL
        WHEN least(
            abs(mean_self_repair) / nullif(mean_self_repair_se, 0),
            abs(mean_removed_effect) / nullif(mean_removed_effect_se, 0)
        ) <= 2 THEN 'undecided'
        WHEN mean_self_repair * mean_removed_effect > 0 THEN 'self-repaired'
        WHEN mean_self_repair * mean_removed_effect < 0 THEN 'breakage'
        ELSE 'undecided'
    END AS verdict,
    n_rows,
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
