-- The Lorenz curve of a head's absolute effects: the share of their sum that the lowest rows hold, in at most 101
-- points.
--
-- Grain: run_id, ablation, measure, layer, head, lowest_share
-- Paper: none
--
-- Only for the abs_ measures: shares need values of one sign. From (0, 0) to (1, 1), on the diagonal where all rows
-- are equal; twice the area between the two is the Gini coefficient of head_tail. Points are exact and densest at the
-- steep end. A head whose values are all 0 has no curve. Failed runs are left out. Rows are not sorted, since sorting
-- all curves takes as long as reading them: ORDER BY lowest_share to draw one.
--
-- Columns:
--   lowest_share DOUBLE: The rows with the lowest values, as a share of the head's rows [ratio]
--   total_share DOUBLE: The sum of these rows' values, as a share of the sum of all rows' [ratio]

WITH shares AS (
    SELECT
        run_id,
        ablation,
        measure,
        layer,
        head,
        label,
        1 - n_reached / n_rows AS lowest_share,
        greatest(0, 1 - reached_total_share) AS total_share
    FROM tail_points
    WHERE starts_with(measure, 'abs_') AND reached_total_share IS NOT NULL
    UNION ALL
    SELECT run_id, ablation, measure, layer, head, label, 1 AS lowest_share, 1 AS total_share
    FROM tail_points
    WHERE starts_with(measure, 'abs_') AND reached_total_share IS NOT NULL AND n_reached = n_rows
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    measure,
    layer,
    head,
    label,
    lowest_share,
    total_share
FROM shares
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
