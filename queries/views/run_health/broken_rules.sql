-- The rules of a sound warehouse that do not hold, as selfrepair verify reports them: none, where nothing is found.
--
-- Grain: run_id, rule_number
-- Paper: none
--
-- In a file whose tables of rows for every head hold more than 5,000,000 rows together, rules that read these are not
-- checked here, since that takes long: selfrepair verify checks them all.
--
-- Columns:
--   run_id INTEGER: Run in which it does not hold: runs.run_id; NULL: in no run's rows
--   rule_number INTEGER: Place of the rule in the report of selfrepair verify, from 1
--   rule VARCHAR: What should hold
--   n_violations BIGINT: How often it does not [violations]
--   example VARCHAR: One of the violations

WITH
{VIOLATIONS}
SELECT
    runs.run_id,
    rule_number,
    rule,
    count(*) AS n_violations,
    min(what) AS example
FROM violations
LEFT JOIN runs USING (run_id)
GROUP BY runs.run_id, rule_number, rule
ORDER BY runs.run_id NULLS FIRST, rule_number
