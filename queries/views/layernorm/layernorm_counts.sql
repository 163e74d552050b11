-- Building block: how often each ratio of the final norm's scales occurs, among a head's rows and among a whole run's.
--
-- Grain: run_id, ablation, population, level, layer, head, ln_scale_ratio
-- Paper: section 4 (LayerNorm)
-- Kept: stage
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions, or 'top2', the 2 % with the highest clean direct_effect
--   level VARCHAR: What a row describes: 'head', or 'model' (layer and head are NULL), which pools the rows of all its
--     heads
--   ln_scale_ratio DOUBLE: One value of the clean over the ablated scale of the final norm, S/S'; > 1: the scale
--     shrank and surviving logits grew [ratio]
--   n_tied BIGINT: Rows with this value [rows]

WITH head_counts AS (
    SELECT run_id, ablation, 'all' AS population, layer, head, value AS ln_scale_ratio, n_rows
    FROM effect_counts
    WHERE measure = 'ln_scale_ratio'
    UNION ALL
    SELECT run_id, ablation, 'top2' AS population, layer, head, ln_scale_ratio, count(*) AS n_rows
    FROM ranked_top_rows
    GROUP BY run_id, ablation, layer, head, ln_scale_ratio
)
SELECT
    run_id,
    ablation,
    population,
    CASE WHEN grouping(layer, head) = 0 THEN 'head' ELSE 'model' END AS level,
    layer,
    head,
    round(CAST(ln_scale_ratio AS DOUBLE), 4) AS ln_scale_ratio,
    CAST(sum(n_rows) AS BIGINT) AS n_tied
FROM head_counts
GROUP BY GROUPING SETS (
    (run_id, ablation, population, layer, head, ln_scale_ratio),
    (run_id, ablation, population, ln_scale_ratio)
)
