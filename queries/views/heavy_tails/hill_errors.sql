-- Building block: standard errors of the Hill indices of a head, clustered by document.
--
-- Grain: run_id, ablation, measure, layer, head
-- Paper: none
-- Kept: mart
--
-- 1 / alpha is the mean of ln(value / cut) over the top rows, and alpha has its relative error, linearised over the sampled clusters
-- (sampled_clusters): the root of G / (G - 1) * sum of e^2, divided by the sum of all ln(value / cut), where
-- e = sum of ln(value / cut) - p * rows / alpha - steepness * (top rows - p * rows) of a cluster, p the share of the top. The cut is
-- an estimate: e allows for what moving it does, by how steeply values fall there. In a power law, that is 1 / alpha, too.
--
-- Columns:
--   measure VARCHAR: Which number of a row: tail_distributions.measure
--   n_clusters BIGINT: Clusters of the run (prompt_clusters), which the sampled ones stand for [clusters]
--   hill_10_se DOUBLE: Standard error of hill_10; NULL: no index, or one cluster [exponent]
--   hill_2_se DOUBLE: Standard error of hill_2; NULL: no index, or one cluster [exponent]
--   hill_0_5_se DOUBLE: Standard error of hill_0_5; NULL: no index, or one cluster [exponent]

WITH first_ablations AS (
    SELECT run_id, min(ablation) AS first_ablation
    FROM measurements
    GROUP BY run_id
),
cuts AS (
    SELECT
        run_id,
        ablation,
        CAST(list_position(['direct_effect', 'logit_change', 'self_repair'], replace(measure, 'abs_', '')) AS TINYINT) AS number,
        layer,
        head,
        max(cut_10) FILTER (starts_with(measure, 'abs_')) AS size_10,
        max(cut_2) FILTER (starts_with(measure, 'abs_')) AS size_2,
        max(cut_0_5) FILTER (starts_with(measure, 'abs_')) AS size_0_5,
        max(cut_10) FILTER (NOT starts_with(measure, 'abs_')) AS value_10,
        max(cut_2) FILTER (NOT starts_with(measure, 'abs_')) AS value_2,
        max(cut_0_5) FILTER (NOT starts_with(measure, 'abs_')) AS value_0_5,
        max(coalesce(cut_steepness_10, 1 / hill_10)) FILTER (starts_with(measure, 'abs_')) AS size_steepness_10,
        max(coalesce(cut_steepness_2, 1 / hill_2)) FILTER (starts_with(measure, 'abs_')) AS size_steepness_2,
        max(coalesce(cut_steepness_0_5, 1 / hill_0_5)) FILTER (starts_with(measure, 'abs_')) AS size_steepness_0_5,
        max(coalesce(cut_steepness_10, 1 / hill_10)) FILTER (NOT starts_with(measure, 'abs_')) AS value_steepness_10,
        max(coalesce(cut_steepness_2, 1 / hill_2)) FILTER (NOT starts_with(measure, 'abs_')) AS value_steepness_2,
        max(coalesce(cut_steepness_0_5, 1 / hill_0_5)) FILTER (NOT starts_with(measure, 'abs_')) AS value_steepness_0_5,
        coalesce(size_10, size_2, size_0_5) - 0.00005 AS below_sizes,
        coalesce(value_10, value_2, value_0_5) - 0.00005 AS below_values
    FROM tail_numbers
    INNER JOIN first_ablations USING (run_id)
    WHERE ablation = first_ablation OR measure NOT IN ('direct_effect', 'abs_direct_effect')
    GROUP BY run_id, ablation, number, layer, head
),
effects AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        cluster_id,
        cuts.* EXCLUDE (run_id, ablation, layer, head),
        CASE number WHEN 1 THEN direct_effect WHEN 2 THEN logit_change ELSE self_repair END AS value
    FROM sampled_rows
    INNER JOIN cuts USING (run_id, ablation, layer, head)
),
tops AS (
    SELECT
        run_id,
        ablation,
        number,
        layer,
        head,
        cluster_id,
        -- in the top 0.5 %: 3, 2 %: 2, 10 %: 1; half a step below a cut lies no stored value
        CASE
            WHEN abs(value) > size_0_5 - 0.00005 THEN 3
            WHEN abs(value) > size_2 - 0.00005 THEN 2
            WHEN abs(value) > size_10 - 0.00005 THEN 1
            ELSE 0
        END AS size_level,
        CASE
            WHEN value > value_0_5 - 0.00005 THEN 3
            WHEN value > value_2 - 0.00005 THEN 2
            WHEN value > value_10 - 0.00005 THEN 1
            ELSE 0
        END AS value_level,
        count(*) AS n_rows,
        sum(ln(round(abs(value) * 10000) / 10000e0)) AS logarithms
    FROM effects
    WHERE value > below_values OR abs(value) > below_sizes
    GROUP BY ALL
),
clusters AS (
    SELECT
        run_id,
        ablation,
        number,
        layer,
        head,
        cluster_id,
        coalesce(sum(n_rows) FILTER (size_level >= 1), 0) AS size_rows_10,
        coalesce(sum(logarithms) FILTER (size_level >= 1), 0) - size_rows_10 * ln(any_value(size_10)) AS size_logs_10,
        coalesce(sum(n_rows) FILTER (size_level >= 2), 0) AS size_rows_2,
        coalesce(sum(logarithms) FILTER (size_level >= 2), 0) - size_rows_2 * ln(any_value(size_2)) AS size_logs_2,
        coalesce(sum(n_rows) FILTER (size_level >= 3), 0) AS size_rows_0_5,
        coalesce(sum(logarithms) FILTER (size_level >= 3), 0) - size_rows_0_5 * ln(any_value(size_0_5)) AS size_logs_0_5,
        coalesce(sum(n_rows) FILTER (value_level >= 1), 0) AS value_rows_10,
        coalesce(sum(logarithms) FILTER (value_level >= 1), 0) - value_rows_10 * ln(any_value(value_10)) AS value_logs_10,
        coalesce(sum(n_rows) FILTER (value_level >= 2), 0) AS value_rows_2,
        coalesce(sum(logarithms) FILTER (value_level >= 2), 0) - value_rows_2 * ln(any_value(value_2)) AS value_logs_2,
        coalesce(sum(n_rows) FILTER (value_level >= 3), 0) AS value_rows_0_5,
        coalesce(sum(logarithms) FILTER (value_level >= 3), 0) - value_rows_0_5 * ln(any_value(value_0_5)) AS value_logs_0_5
    FROM tops
    INNER JOIN cuts USING (run_id, ablation, number, layer, head)
    GROUP BY run_id, ablation, number, layer, head, cluster_id
),
cluster_rows AS (
    SELECT run_id, ablation, layer, head, cluster_id, CAST(sum(n_rows) AS DOUBLE) AS n_rows
    FROM stretch_sums
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
    GROUP BY run_id, ablation, layer, head, cluster_id
),
all_clusters AS (
    SELECT
        *,
        sqrt(n_sampled / n_clusters) AS of_all
    FROM cluster_rows
    INNER JOIN sampled_clusters USING (run_id, cluster_id)
    INNER JOIN cuts USING (run_id, ablation, layer, head)
    LEFT JOIN clusters USING (run_id, ablation, number, layer, head, cluster_id)
),
relative_errors AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        number,
        any_value(n_clusters) AS n_clusters,
        any_value(of_all) AS of_all,
        unnest([
            {
                'prefix': '',
                'error_10': hill_error(value_logs_10, value_rows_10, n_rows, any_value(value_steepness_10)),
                'error_2': hill_error(value_logs_2, value_rows_2, n_rows, any_value(value_steepness_2)),
                'error_0_5': hill_error(value_logs_0_5, value_rows_0_5, n_rows, any_value(value_steepness_0_5))
            },
            {
                'prefix': 'abs_',
                'error_10': hill_error(size_logs_10, size_rows_10, n_rows, any_value(size_steepness_10)),
                'error_2': hill_error(size_logs_2, size_rows_2, n_rows, any_value(size_steepness_2)),
                'error_0_5': hill_error(size_logs_0_5, size_rows_0_5, n_rows, any_value(size_steepness_0_5))
            }
        ], recursive := true)
    FROM all_clusters
    GROUP BY run_id, ablation, layer, head, number
)
SELECT
    tail_numbers.run_id,
    tail_numbers.ablation,
    tail_numbers.measure,
    tail_numbers.layer,
    tail_numbers.head,
    n_clusters,
    hill_10 * error_10 * of_all AS hill_10_se,
    hill_2 * error_2 * of_all AS hill_2_se,
    hill_0_5 * error_0_5 * of_all AS hill_0_5_se
FROM tail_numbers
INNER JOIN relative_errors
    ON relative_errors.run_id = tail_numbers.run_id
    AND relative_errors.layer = tail_numbers.layer
    AND relative_errors.head = tail_numbers.head
    AND relative_errors.prefix || ['direct_effect', 'logit_change', 'self_repair'][relative_errors.number] = tail_numbers.measure
    AND (relative_errors.ablation = tail_numbers.ablation OR relative_errors.number = 1)
ORDER BY tail_numbers.run_id, tail_numbers.ablation, tail_numbers.measure, tail_numbers.layer, tail_numbers.head
