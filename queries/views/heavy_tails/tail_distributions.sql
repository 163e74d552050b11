-- Building block: the distributions whose tails are described: six measures of every head, each with a number.
--
-- Grain: run_id, ablation, measure, layer, head
-- Paper: none
-- Kept: stage
--
-- A number instead of five columns keeps the sorting of all their values cheap (`tail_places`). The clean direct_effect
-- is the same under every ablation: its distributions have the same number under each.
--
-- Columns:
--   distribution INTEGER: Number of the distribution, from 1; it can change with every load
--   measure VARCHAR: Which number of a row: direct_effect, logit_change or self_repair, or its absolute value:
--     abs_direct_effect, abs_logit_change, abs_self_repair
--   signed_measure VARCHAR: The measure before its absolute value is taken: direct_effect, logit_change or self_repair
--   n_rows BIGINT: Rows of the head [rows]
--   mean DOUBLE: Mean of the measure over these rows [logits]

WITH heads AS (
    SELECT
        run_id,
        ablation,
        measure AS signed_measure,
        layer,
        head,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        sum(CAST(value AS DOUBLE) * n_rows) AS value_sum,
        sum(CAST(abs(value) AS DOUBLE) * n_rows) AS absolute_sum
    FROM effect_counts
    WHERE measure IN ('direct_effect', 'logit_change', 'self_repair')
    GROUP BY ALL
),
prefixes AS (
    SELECT unnest(['', 'abs_']) AS prefix
),
numbered AS (
    SELECT
        *,
        CAST(row_number() OVER (ORDER BY run_id, ablation, signed_measure, prefix, layer, head) AS INTEGER) AS distribution
    FROM heads
    CROSS JOIN prefixes
),
ablations AS (
    SELECT DISTINCT run_id, ablation
    FROM effect_counts
)
SELECT
    numbered.distribution,
    numbered.run_id,
    ablations.ablation,
    numbered.prefix || numbered.signed_measure AS measure,
    numbered.signed_measure,
    numbered.layer,
    numbered.head,
    numbered.n_rows,
    round(CASE numbered.prefix WHEN '' THEN numbered.value_sum ELSE numbered.absolute_sum END, 4) / numbered.n_rows AS mean
FROM numbered
INNER JOIN ablations
    ON ablations.run_id = numbered.run_id
    AND (ablations.ablation = numbered.ablation OR numbered.signed_measure = 'direct_effect')
