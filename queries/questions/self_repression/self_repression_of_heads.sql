-- Which heads show self-repression or reinforcement? Slopes of the direct effect after adding the head's own output,
-- the lowest first.
--
-- Grain: run_id, layer, head
-- Paper: section 6 (iterative inference: self-repression)
--
-- Runs that did not measure self-repression have no rows.
--
-- Parameters:
--   model, run_id
--   multiple INTEGER = 1: Multiple of its own output [times]
--   verdict all|repressing|reinforcing|neither|not enough data = all: Only heads of this verdict
--   at_most

SELECT
    run_id,
    model,
    label,
    slope,
    slope_low,
    slope_high,
    other_slope,
    random_slope,
    verdict,
    own_scale_slope,
    intercept,
    mean_direct_effect,
    n_rows,
    n_clusters,
    layer,
    head
FROM self_repression_slope
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND multiple = $multiple
    AND ($verdict = 'all' OR verdict = $verdict)
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY slope, layer, head) <= $at_most
ORDER BY run_id, slope, layer, head
