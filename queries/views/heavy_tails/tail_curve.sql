-- The complementary distribution function of a measure of a head: the share of rows at or above a value, in at most 100
-- points.
--
-- Grain: run_id, ablation, measure, layer, head, value
-- Paper: none
--
-- On two logarithmic axes a power-law tail is a straight line, with slope -alpha (see hill_curve). Points are exact:
-- values that occur, close together in the logarithm of the share from the highest value down. Failed runs are left
-- out. Rows are not sorted, since sorting all curves takes as long as reading them: ORDER BY value to draw one.
--
-- Columns:
--   reached_share DOUBLE: Rows with this value or a higher one, as a share of the head's rows; the lowest value has 1 [ratio]

SELECT
    run_id,
    models.name AS model,
    ablation,
    measure,
    layer,
    head,
    label,
    value,
    n_reached,
    n_reached / n_rows AS reached_share
FROM tail_points
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
