-- For which heads does it matter how they are ablated? The widest range of mean self-repair first.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (ablation types)
--
-- Runs that measured a single ablation type have no range and are left out. How far whole runs agree:
-- ablation_agreement.
--
-- The interval is that of the difference between the two ablations, paired by document (cluster_residuals). It holds at 95 % for
-- all pairs of ablations of all heads of the run together (Bonferroni), since the widest are chosen here: where it begins at 0,
-- the ablations of the head may agree.
--
-- Parameters:
--   model, run_id, population, at_most
--
-- Columns:
--   self_repair_range DOUBLE: Highest minus lowest mean_self_repair among the ablations [logits]
--   self_repair_range_low DOUBLE: Lower end of its interval, at 95 % for all heads together, at least 0; NULL: one cluster [logits]
--   self_repair_range_high DOUBLE: Upper end of that interval; NULL: one cluster [logits]
--   under_resample DOUBLE: mean_self_repair under resample; NULL: not measured [logits]
--   under_mean DOUBLE: mean_self_repair under mean; NULL: not measured [logits]
--   under_zero DOUBLE: mean_self_repair under zero; NULL: not measured [logits]

WITH ranges AS (
    SELECT
        run_id,
        model,
        label,
        population,
        layer,
        head,
        max(mean_self_repair) - min(mean_self_repair) AS self_repair_range,
        list(ablation ORDER BY mean_self_repair DESC, ablation) AS by_repair,
        max(mean_self_repair) FILTER (ablation = 'resample') AS under_resample,
        max(mean_self_repair) FILTER (ablation = 'mean') AS under_mean,
        max(mean_self_repair) FILTER (ablation = 'zero') AS under_zero,
        max(n_rows) AS n_rows,
        count(*) OVER (PARTITION BY run_id) * count(*) * (count(*) - 1) / 2 AS n_tested
    FROM head_repair
    WHERE
        ($model IS NULL OR model = $model)
        AND ($run_id IS NULL OR run_id = $run_id)
        AND population = coalesce($population, default_population(run_id))
    GROUP BY run_id, model, label, population, layer, head
    HAVING count(*) > 1
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY self_repair_range DESC, layer, head) <= $at_most
),
differences AS (
    SELECT
        run_id,
        layer,
        head,
        CAST(sum(CASE WHEN ablation = by_repair[1] THEN self_repair ELSE -self_repair END) AS DOUBLE) AS self_repair
    FROM ranges
    INNER JOIN cluster_residuals USING (run_id, population, layer, head)
    WHERE ablation IN (by_repair[1], by_repair[-1])
    GROUP BY run_id, layer, head, cluster_id
),
errors AS (
    SELECT
        run_id,
        layer,
        head,
        count(*) AS n_clusters,
        round(sqrt(count(*) / nullif(count(*) - 1, 0) * sum(self_repair ** 2)), 12) AS standard_error
    FROM differences
    GROUP BY run_id, layer, head
),
intervals AS (
    SELECT *, t_of_many(n_clusters - 1, n_tested) * standard_error AS half_width
    FROM ranges
    INNER JOIN errors USING (run_id, layer, head)
)
SELECT
    run_id,
    model,
    label,
    self_repair_range,
    CASE WHEN half_width IS NOT NULL THEN greatest(0, self_repair_range - half_width) END AS self_repair_range_low,
    self_repair_range + half_width AS self_repair_range_high,
    under_resample,
    under_mean,
    under_zero,
    n_rows,
    n_clusters,
    layer,
    head
FROM intervals
ORDER BY run_id, self_repair_range DESC, layer, head
