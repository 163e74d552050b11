-- Does the logit change less than the direct effect drops? Mean direct effect and change in logit of every head.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (the scatter of mean direct effect against mean logit change)
--
-- Without self-repair, ablating a head changes the logit by -mean_removed_effect. Where the rest of the model undoes a
-- part of that change, the head is self-repaired; where it adds to it, that is breakage. For a head that pushes the
-- correct token down (mean_removed_effect < 0), self-repair is negative.
--
-- A verdict has a margin: a head is self-repaired where the whole interval of its mean self-repair lies beyond a tenth of
-- |mean_removed_effect| on its side of 0, there is breakage where it lies beyond on the other side, and neither where it lies
-- between; provided that mean_removed_effect is told from 0. Intervals hold at 95 % for all heads of a run together
-- (Bonferroni). With fewer than 12 clusters there is not enough data.
--
-- Parameters:
--   model, run_id, ablation, population = all
--
-- Columns:
--   verdict VARCHAR: 'self-repaired', 'breakage' or 'neither', by the intervals and a tenth of |mean_removed_effect|; 'unclear'
--     or 'not enough data'

WITH tested AS (
    SELECT
        *,
        t_of_many(n_clusters - 1, count(*) OVER (PARTITION BY run_id)) AS t,
        abs(mean_removed_effect) / 10 AS margin
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
        WHEN n_clusters < 12 THEN 'not enough data'
        WHEN abs(mean_removed_effect) <= t * mean_removed_effect_se THEN 'unclear'
        WHEN sign(mean_removed_effect) * mean_self_repair - t * mean_self_repair_se > margin THEN 'self-repaired'
        WHEN sign(mean_removed_effect) * mean_self_repair + t * mean_self_repair_se < -margin THEN 'breakage'
        WHEN abs(mean_self_repair) + t * mean_self_repair_se <= margin THEN 'neither'
        ELSE 'unclear'
    END AS verdict,
    n_rows,
    n_clusters,
    layer,
    head,
    depth
FROM tested
ORDER BY run_id, layer, head
