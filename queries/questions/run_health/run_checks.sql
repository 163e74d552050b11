-- Can the numbers be trusted? What is loaded of each run, its two checks, and how it differs from other runs.
--
-- Grain: run_id
-- Paper: none
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs
--   run_id INTEGER = NULL: Number of a run (see the list of runs); NULL: the model's run, or all

SELECT
    run_id,
    model,
    health,
    rows_loaded,
    rows_expected,
    identity_error_max,
    crosscheck_error_max,
    crosscheck_tolerance,
    crosscheck_rows,
    share_undefined_ratios,
    n_other_runs,
    settings_differ,
    status
FROM run_health
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
ORDER BY run_id
