-- The Hill plot of a head: its Hill index against the number of top rows; where it is flat, the tail follows a power
-- law.
--
-- Grain: run_id, ablation, measure, layer, head, n_top
-- Paper: none
--
-- At most 100 points, close together in the logarithm of n_top, and only as far down as values stay above 0. Ties are
-- never split: n_top ends where a value ends. Failed runs are left out. Rows are not sorted, since sorting all curves
-- takes as long as reading them: ORDER BY n_top to draw one.
--
-- Columns:
--   n_clusters BIGINT: Documents or prompts of the run that errors are clustered by [clusters]
--   n_top BIGINT: Rows in the top: those above cut_value [rows]
--   top_share DOUBLE: Rows in the top, those above cut_value, as a share of the head's rows [ratio]
--   cut_value DOUBLE: The highest value below the top, which the index measures the top's values against [logits]
--   hill DOUBLE: Hill index, n_top / sum over the top of ln(value / cut_value): the exponent alpha of a tail that falls as
--     x^-alpha; lower: heavier tail [exponent]
--   hill_se DOUBLE: Standard error of hill: that of independent rows, hill / sqrt(n_top), times what clustering by document
--     makes of it at the nearest of the top 10, 2 and 0.5 % (hill_errors); NULL: no index there, or one document [exponent]

WITH factors AS (
    SELECT
        run_id,
        ablation,
        measure,
        layer,
        head,
        n_clusters,
        hill_10_se / hill_10 * sqrt(greatest(1, n_rows // 10)) AS factor_10,
        hill_2_se / hill_2 * sqrt(greatest(1, n_rows // 50)) AS factor_2,
        hill_0_5_se / hill_0_5 * sqrt(greatest(1, n_rows // 200)) AS factor_0_5
    FROM tail_numbers
    INNER JOIN hill_errors USING (run_id, ablation, measure, layer, head)
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    measure,
    layer,
    head,
    label,
    n_reached AS n_top,
    n_reached / n_rows AS top_share,
    next_value AS cut_value,
    hill,
    hill / sqrt(n_reached) * CASE
        WHEN top_share > 0.045 THEN coalesce(factor_10, factor_2, factor_0_5)
        WHEN top_share > 0.01 THEN coalesce(factor_2, factor_0_5)
        ELSE factor_0_5
    END AS hill_se,
    n_clusters
FROM tail_points
LEFT JOIN factors USING (run_id, ablation, measure, layer, head)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed' AND hill IS NOT NULL
