-- Building block: each value of a distribution with the number of rows that reach it, which is its place in the tail.
--
-- Grain: distribution, value
-- Paper: none
-- Kept: stage
--
-- Columns:
--   value DOUBLE: One value of the measure, a whole number of steps of 1e-4 [logits]
--   n_tied BIGINT: Rows with this value [rows]
--   n_above BIGINT: Rows with a higher value [rows]
--   n_reached BIGINT: Rows with this value or a higher one [rows]
--   n_rows BIGINT: Rows of the distribution [rows]
--   mean DOUBLE: Mean of the distribution [logits]

WITH signed_counts AS (
    SELECT
        distribution,
        tail_distributions.measure = signed_measure AS is_signed,
        value AS stored_value,
        effect_counts.n_rows AS n_tied,
        tail_distributions.n_rows,
        mean
    FROM effect_counts
    INNER JOIN tail_distributions USING (run_id, ablation, layer, head)
    WHERE signed_measure = effect_counts.measure
),
counts AS (
    SELECT distribution, stored_value, n_tied, n_rows, mean
    FROM signed_counts
    WHERE is_signed
    UNION ALL
    SELECT
        distribution,
        abs(stored_value) AS stored_value,
        CAST(sum(n_tied) AS BIGINT) AS n_tied,
        any_value(n_rows) AS n_rows,
        any_value(mean) AS mean
    FROM signed_counts
    WHERE NOT is_signed
    GROUP BY distribution, abs(stored_value)
),
places AS (
    SELECT
        distribution,
        round(CAST(stored_value AS DOUBLE), 4) + 0 AS value, -- + 0 makes of -0.0 the plain 0
        n_tied,
        -- numbers of rows are exact in DOUBLE, too, and its running sums take half the time of whole numbers'
        CAST(
            sum(CAST(n_tied AS DOUBLE)) OVER (
                PARTITION BY distribution ORDER BY stored_value DESC ROWS UNBOUNDED PRECEDING
            ) AS BIGINT
        ) AS n_reached,
        n_rows,
        mean
    FROM counts
)
SELECT distribution, value, n_tied, n_reached - n_tied AS n_above, n_reached, n_rows, mean
FROM places
