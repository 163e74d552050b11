-- How heavy is the tail of one head? Share of its top rows, and tail indices, for six measures of a row.
--
-- Grain: run_id, measure
-- Paper: sections 3 and 5 (heavy-tailed importance)
--
-- The curves behind it, for pictures: tail_curve, lorenz_curve and hill_curve.
--
-- Parameters:
--   model, run_id, ablation, layer, head

SELECT
    run_id,
    model,
    label,
    measure,
    share_top_0_1,
    share_top_1,
    share_top_2,
    share_top_10,
    gini,
    hill_10,
    hill_2,
    hill_0_5,
    excess_kurtosis,
    quantile_50,
    quantile_98,
    quantile_99_9,
    n_rows
FROM head_tail
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND layer = $layer
    AND head = $head
ORDER BY run_id, measure
