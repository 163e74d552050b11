-- Building block: the distributions whose tails are described: six measures of every head, each with a number.
--
-- Grain: distribution
-- Paper: none
-- Kept: stage
--
-- A number instead of five columns keeps the sorting of all their values cheap (`tail_places`).
--
-- Columns:
--   distribution INTEGER: Number of the distribution, from 1; it can change with every load
--   measure VARCHAR: Which number of a row: direct_effect, logit_change or self_repair, or its size without the sign:
--     abs_direct_effect, abs_logit_change, abs_self_repair
--   signed_measure VARCHAR: The measure before its sign is taken away: direct_effect, logit_change or self_repair
--   n_rows BIGINT: Rows of the head [rows]

WITH heads AS (
    SELECT run_id, ablation, measure AS signed_measure, layer, head, CAST(sum(n_rows) AS BIGINT) AS n_rows
    FROM effect_counts
    WHERE measure IN ('direct_effect', 'logit_change', 'self_repair')
    GROUP BY ALL
),
prefixes AS (
    SELECT unnest(['', 'abs_']) AS prefix
)
SELECT
    CAST(row_number() OVER (ORDER BY run_id, ablation, signed_measure, prefix, layer, head) AS INTEGER) AS distribution,
    run_id,
    ablation,
    prefix || signed_measure AS measure,
    signed_measure,
    layer,
    head,
    n_rows
FROM heads
CROSS JOIN prefixes
