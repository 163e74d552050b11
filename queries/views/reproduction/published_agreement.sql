-- Run-to-run agreement of the authors' own data: two of their runs of one model, quantity by quantity.
--
-- Grain: published_model, population, quantity, published_run_a, published_run_b
-- Paper: section 3 (what its authors released)
--
-- The yardstick for a reproduction, which cannot be expected to agree better than the authors' own runs. They released
-- two runs of one model, pythia-160m; the second one of top2 has no clipped fractions.
--
-- Columns:
--   published_run_a VARCHAR: First of the two runs, by name
--   published_run_b VARCHAR: Second of the two runs
--   n_heads BIGINT: Heads that are compared [heads]
--   spearman DOUBLE: Spearman's rank correlation over heads, ties share their average rank; NULL where all heads of a
--     run are equal [-1..1]
--   pearson DOUBLE: Pearson correlation over heads; NULL where all heads of a run are equal [-1..1]
--   mean_absolute_difference DOUBLE: Mean over heads of the absolute difference [logits or ratio]
--   slope DOUBLE: Least-squares change of the quantity in run b per unit of it in run a; NULL: all heads of run a are
--     equal [per unit]

WITH pairs AS (
    SELECT
        published_model,
        population,
        quantity,
        one.published_run AS published_run_a,
        other.published_run AS published_run_b,
        one.published_value AS value_a,
        other.published_value AS value_b
    FROM published_quantities AS one
    INNER JOIN published_quantities AS other USING (published_model, population, quantity, layer, head)
    WHERE one.published_run < other.published_run
),
shared_places AS (
    SELECT
        *,
        rank() OVER (PARTITION BY published_model, population, quantity, published_run_a, published_run_b ORDER BY value_a)
            + (count(*) OVER (
                PARTITION BY published_model, population, quantity, published_run_a, published_run_b, value_a
            ) - 1) / 2 AS place_a,
        rank() OVER (PARTITION BY published_model, population, quantity, published_run_a, published_run_b ORDER BY value_b)
            + (count(*) OVER (
                PARTITION BY published_model, population, quantity, published_run_a, published_run_b, value_b
            ) - 1) / 2 AS place_b
    FROM pairs
)
SELECT
    published_model,
    population,
    quantity,
    published_run_a,
    published_run_b,
    count(*) AS n_heads,
    CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(place_a, place_b) END AS spearman,
    CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(value_a, value_b) END AS pearson,
    avg(abs(value_a - value_b)) AS mean_absolute_difference,
    CASE WHEN min(value_a) < max(value_a) THEN regr_slope(value_b, value_a) END AS slope
FROM shared_places
GROUP BY published_model, population, quantity, published_run_a, published_run_b
ORDER BY published_model, population = 'all', population, quantity, published_run_a, published_run_b
