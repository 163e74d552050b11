-- Building block: standard errors of the Hill indices of a head, clustered by document.
--
-- Grain: run_id, ablation, measure, layer, head
-- Paper: none
-- Kept: mart
--
-- 1 / alpha is the mean of ln(value / cut) over the top rows, and alpha has its relative error, linearised over clusters as that
-- of every mean (repair_estimates). The cut is estimated, too: in a tail that follows a power law, what that adds is what the
-- varying number of rows above it takes away. Clusters are prompt_clusters'. Of a run with 200 of them and 50,000 positions a
-- head or more, every n-th stands for all, so that 100 and 25,000 are left at least: the error itself is then known to a tenth.
--
-- Columns:
--   measure VARCHAR: Which number of a row: tail_distributions.measure
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
        coalesce(size_10, size_2, size_0_5) - 0.00005 AS below_sizes, -- halfway to the next stored value
        coalesce(value_10, value_2, value_0_5) - 0.00005 AS below_values
    FROM tail_numbers
    GROUP BY run_id, ablation, number, layer, head
),
places AS (
    SELECT
        run_id,
        cluster_id,
        row_number() OVER (PARTITION BY run_id ORDER BY cluster_id) AS place,
        count(*) OVER (PARTITION BY run_id) AS n_clusters
    FROM prompt_clusters
    GROUP BY run_id, cluster_id
),
sizes AS (
    SELECT run_id, count(*) AS n_positions
    FROM tokens
    GROUP BY run_id
),
sampled AS (
    SELECT run_id, cluster_id, n_clusters, count(*) OVER (PARTITION BY run_id) AS n_sampled
    FROM places
    LEFT JOIN sizes USING (run_id)
    WHERE place % greatest(1, least(n_clusters // 100, coalesce(n_positions, 0) // 25000)) = 0
),
rows_used AS MATERIALIZED (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        cluster_id,
        n_clusters,
        n_sampled,
        direct_effect,
        logit_change,
        self_repair,
        ablation = first_ablation AS is_first_ablation
    FROM repair_rows
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
    INNER JOIN sampled USING (run_id, cluster_id)
    INNER JOIN first_ablations USING (run_id)
),
effects AS (
    SELECT * EXCLUDE (direct_effect, logit_change, self_repair), 1::TINYINT AS number, direct_effect AS value
    FROM rows_used
    WHERE is_first_ablation
    UNION ALL
    SELECT * EXCLUDE (direct_effect, logit_change, self_repair), 2::TINYINT AS number, logit_change AS value
    FROM rows_used
    UNION ALL
    SELECT * EXCLUDE (direct_effect, logit_change, self_repair), 3::TINYINT AS number, self_repair AS value
    FROM rows_used
),
tops AS MATERIALIZED (
    SELECT
        effects.*,
        cuts.* EXCLUDE (run_id, ablation, layer, head, number),
        round(abs(value) * 10000) / 10000e0 AS size,
        ln(size) AS logarithm
    FROM effects
    INNER JOIN cuts USING (run_id, ablation, number, layer, head)
    WHERE value > below_values OR abs(value) > below_sizes
),
clusters AS (
    SELECT
        run_id,
        ablation,
        number,
        layer,
        head,
        cluster_id,
        any_value(n_clusters) AS n_clusters,
        any_value(n_sampled) AS n_sampled,
        count(*) FILTER (size >= size_10) AS size_rows_10,
        coalesce(sum(logarithm) FILTER (size >= size_10), 0) - size_rows_10 * ln(any_value(size_10)) AS size_logs_10,
        count(*) FILTER (size >= size_2) AS size_rows_2,
        coalesce(sum(logarithm) FILTER (size >= size_2), 0) - size_rows_2 * ln(any_value(size_2)) AS size_logs_2,
        count(*) FILTER (size >= size_0_5) AS size_rows_0_5,
        coalesce(sum(logarithm) FILTER (size >= size_0_5), 0) - size_rows_0_5 * ln(any_value(size_0_5)) AS size_logs_0_5,
        count(*) FILTER (value > 0 AND size >= value_10) AS value_rows_10,
        coalesce(sum(logarithm) FILTER (value > 0 AND size >= value_10), 0) - value_rows_10 * ln(any_value(value_10)) AS value_logs_10,
        count(*) FILTER (value > 0 AND size >= value_2) AS value_rows_2,
        coalesce(sum(logarithm) FILTER (value > 0 AND size >= value_2), 0) - value_rows_2 * ln(any_value(value_2)) AS value_logs_2,
        count(*) FILTER (value > 0 AND size >= value_0_5) AS value_rows_0_5,
        coalesce(sum(logarithm) FILTER (value > 0 AND size >= value_0_5), 0) - value_rows_0_5 * ln(any_value(value_0_5)) AS value_logs_0_5
    FROM tops
    GROUP BY run_id, ablation, number, layer, head, cluster_id
),
relative_errors AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        number,
        sqrt(any_value(n_sampled) / any_value(n_clusters)) AS of_all,
        unnest([
            {
                'prefix': '',
                'error_10': hill_error(value_logs_10, value_rows_10, any_value(n_sampled)),
                'error_2': hill_error(value_logs_2, value_rows_2, any_value(n_sampled)),
                'error_0_5': hill_error(value_logs_0_5, value_rows_0_5, any_value(n_sampled))
            },
            {
                'prefix': 'abs_',
                'error_10': hill_error(size_logs_10, size_rows_10, any_value(n_sampled)),
                'error_2': hill_error(size_logs_2, size_rows_2, any_value(n_sampled)),
                'error_0_5': hill_error(size_logs_0_5, size_rows_0_5, any_value(n_sampled))
            }
        ], recursive := true)
    FROM clusters
    GROUP BY run_id, ablation, layer, head, number
)
SELECT
    tail_numbers.run_id,
    tail_numbers.ablation,
    tail_numbers.measure,
    tail_numbers.layer,
    tail_numbers.head,
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
