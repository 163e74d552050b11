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

WITH counts AS (
    SELECT
        any_value(tail_distributions.run_id) AS run_id,
        distribution,
        CASE WHEN tail_distributions.measure = signed_measure THEN value ELSE abs(value) END AS stored_value,
        CAST(sum(effect_counts.n_rows) AS BIGINT) AS n_tied,
        any_value(tail_distributions.n_rows) AS n_rows
    FROM effect_counts
    INNER JOIN tail_distributions
        ON tail_distributions.run_id = effect_counts.run_id
        AND tail_distributions.ablation = effect_counts.ablation
        AND tail_distributions.signed_measure = effect_counts.measure
        AND tail_distributions.layer = effect_counts.layer
        AND tail_distributions.head = effect_counts.head
    GROUP BY distribution, stored_value
),
places AS (
    SELECT
        run_id,
        distribution,
        round(CAST(stored_value AS DOUBLE), 4) + 0 AS value, -- + 0 makes of -0.0 the plain 0
        n_tied,
        -- numbers of rows are exact in DOUBLE, too, and its running sums take half the time of whole numbers'
        CAST(
            sum(CAST(n_tied AS DOUBLE)) OVER (
                PARTITION BY distribution ORDER BY stored_value DESC ROWS UNBOUNDED PRECEDING
            ) AS BIGINT
        ) AS n_reached,
        n_rows
    FROM counts
)
SELECT run_id, distribution, value, n_tied, n_reached - n_tied AS n_above, n_reached, n_rows
FROM places
