-- Do two runs agree? Each head's mean self-repair in both, the largest difference first.
--
-- Grain: run_id, other_run_id, layer, head
-- Paper: none
--
-- The runs can be of two models of one shape, two sets of prompts, or two devices; run_health says in what they differ.
-- On the same prompts the standard error is paired by document (cluster_residuals); on others it is the root of both
-- runs' squared. Intervals hold at 95 % for all heads that are compared together (Bonferroni).
--
-- Parameters:
--   run_id RUN: Number or name of the first run (see the list of runs), also given as run
--   other_run_id RUN: Number or name of the run to compare it with
--   ablation, population, at_most
--
-- Columns:
--   other_run_id INTEGER: The run that it is compared with: runs.run_id
--   other_model VARCHAR: Model of the run that it is compared with: models.name
--   other_mean_self_repair DOUBLE: mean_self_repair in the other run [logits]
--   difference DOUBLE: mean_self_repair - other_mean_self_repair [logits]
--   difference_low DOUBLE: Lower end of its interval, at 95 % for all heads together; NULL: one cluster [logits]
--   difference_high DOUBLE: Upper end of that interval; NULL: one cluster [logits]
--   difference_in_se DOUBLE: The difference divided by its standard error; NULL: a run of a single cluster has none, or
--     it is 0 [standard errors]
--   other_mean_direct_effect DOUBLE: mean_direct_effect in the other run [logits]
--   n_rows BIGINT: Rows of the head that the means cover, in the run that has fewer [rows]
--   n_clusters BIGINT: Documents or prompts that intervals are clustered by, in the run that has fewer [clusters]

WITH same_prompts AS (
    SELECT count(DISTINCT dataset_id) = 1 AS is_paired
    FROM runs
    WHERE run_id IN ($run_id, $other_run_id)
),
differences AS (
    SELECT
        layer,
        head,
        CAST(
            sum((CAST(run_id = $run_id AS TINYINT) - CAST(run_id = $other_run_id AS TINYINT)) * self_repair) AS DOUBLE
        ) AS self_repair
    FROM cluster_residuals
    WHERE
        run_id IN ($run_id, $other_run_id)
        AND ablation = $ablation
        AND population = coalesce($population, default_population($run_id))
    GROUP BY layer, head, cluster_id
),
errors AS (
    SELECT
        layer,
        head,
        round(sqrt(count(*) / nullif(count(*) - 1, 0) * sum(self_repair ** 2)), 12) AS paired_error
    FROM differences
    GROUP BY layer, head
),
heads AS (
    SELECT
        one.run_id,
        one.model,
        other.run_id AS other_run_id,
        other.model AS other_model,
        one.label,
        one.mean_self_repair,
        other.mean_self_repair AS other_mean_self_repair,
        one.mean_self_repair - other.mean_self_repair AS difference,
        CASE
            WHEN is_paired THEN paired_error
            ELSE sqrt(one.mean_self_repair_se ** 2 + other.mean_self_repair_se ** 2)
        END AS difference_se,
        least(one.n_rows, other.n_rows) AS n_rows,
        least(one.n_clusters, other.n_clusters) AS n_clusters,
        t_of_many(least(one.n_clusters, other.n_clusters) - 1, count(*) OVER ()) * difference_se AS half_width,
        one.mean_direct_effect,
        other.mean_direct_effect AS other_mean_direct_effect,
        one.layer,
        one.head
    FROM head_repair AS one
    INNER JOIN head_repair AS other USING (ablation, population, layer, head)
    INNER JOIN errors USING (layer, head)
    CROSS JOIN same_prompts
    WHERE
        one.run_id = $run_id
        AND other.run_id = $other_run_id
        AND ablation = $ablation
        AND population = coalesce($population, default_population($run_id))
)
SELECT
    run_id,
    model,
    other_run_id,
    other_model,
    label,
    mean_self_repair,
    other_mean_self_repair,
    difference,
    difference - half_width AS difference_low,
    difference + half_width AS difference_high,
    difference / nullif(difference_se, 0) AS difference_in_se,
    mean_direct_effect,
    other_mean_direct_effect,
    n_rows,
    n_clusters,
    layer,
    head
FROM heads
ORDER BY abs(difference) DESC, layer, head
LIMIT $at_most
