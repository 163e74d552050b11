-- Does the logit change less than the direct effect drops? Mean direct effect and change in logit of every head.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (the scatter of mean direct effect against mean logit change)
--
-- Without self-repair, ablating a head changes the logit by -mean_removed_effect. Where the rest of the model undoes a
-- part of that change, the head is self-repaired; where it adds to it, that is breakage. For a head that pushes the
-- correct token down (mean_removed_effect < 0), self-repair is negative.
--
-- A verdict has a margin: a head is self-repaired where the whole interval of its self-repair / removed effect lies above 0.1,
-- there is breakage where it lies below -0.1, and neither where it lies between. Intervals hold at 95 % for all heads of a run
-- together (Bonferroni). With fewer than 12 clusters, an interval wider than the margin, or a mean_removed_effect that is not
-- told from 0, there is not enough data.
--
-- Parameters:
--   model, run_id, ablation, population = all
--
-- Columns:
--   verdict VARCHAR: 'self-repaired', 'breakage' or 'neither', by the interval of self-repair / removed effect; 'unclear':
--     the interval contains 0.1 or -0.1; 'not enough data': fewer than 12 clusters, an interval wider than 0.2 that is not all
--     beyond 0.1, or a mean_removed_effect that is not told from 0

WITH tested AS (
    SELECT
        *,
        t_of_many(n_clusters - 1, count(*) OVER (PARTITION BY run_id)) AS t,
        t * total_fraction_of_removed_se AS half_width
    FROM head_repair
    WHERE
        ($model IS NULL OR model = $model)
        AND ($run_id IS NULL OR run_id = $run_id)
        AND ablation = $ablation
        AND population = $population
)
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
        WHEN n_clusters < 12 OR abs(mean_removed_effect) <= t * mean_removed_effect_se THEN 'not enough data'
        WHEN total_fraction_of_removed - half_width > 0.1 THEN 'self-repaired'
        WHEN total_fraction_of_removed + half_width < -0.1 THEN 'breakage'
        WHEN abs(total_fraction_of_removed) + half_width <= 0.1 THEN 'neither'
        WHEN half_width <= 0.1 THEN 'unclear'
        ELSE 'not enough data'
    END AS verdict,
    n_rows,
    n_clusters,
    layer,
    head,
    depth
FROM tested
ORDER BY run_id, layer, head
