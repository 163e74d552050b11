-- Can the numbers be trusted? What is loaded of each run, its two checks, and how it differs from other runs.
--
-- Grain: run_id
-- Paper: none
--
-- Parameters:
--   model, run_id

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
