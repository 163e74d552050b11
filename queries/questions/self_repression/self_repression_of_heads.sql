-- Which heads repress or reinforce themselves? Slopes of the direct effect with the own output added, the lowest first.
--
-- Grain: run_id, layer, head
-- Paper: section 6 (iterative inference: self-repression)
--
-- Runs that did not measure self-repression have no rows.
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs, one below the other
--   run_id INTEGER = NULL: Number of a run, as selfrepair runs lists it; NULL: the model's run, or all
--   multiple INTEGER = 1: How many times the output was added [times]
--   verdict all|repressing|reinforcing|neither = all: Only heads of this verdict
--   at_most INTEGER = 20: Rows to show of each run, at most [rows]

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
