-- Building block: how often each value of an effect occurs among a head's rows: its whole distribution, exactly.
--
-- Grain: run_id, ablation, measure, layer, head, value
-- Paper: sections 3 and 5
-- Kept: stage
--
-- Effects are stored in steps of 1e-4, so that a head's rows have far fewer values than rows; quantiles, tails and
-- thresholds follow from the counts without sorting the rows. The clean direct_effect is the same under every
-- ablation: it is counted only under the run's first one.
--
-- Columns:
--   measure VARCHAR: Which number of a row: direct_effect, logit_change, self_repair or ln_scale_ratio
--   value FLOAT: One value of the measure, as it is stored [logits or ratio]
--   n_rows BIGINT: Rows with this value [rows]
--   n_first BIGINT: Of these, rows at position 0, where models with a beginning-of-sequence token have it; of
--     direct_effect alone, else NULL [rows]

WITH first_ablations AS (
    SELECT run_id, min(ablation) AS ablation
    FROM measurements
    GROUP BY run_id
)
SELECT
    run_id,
    ablation,
    'direct_effect' AS measure,
    layer,
    head,
    direct_effect AS value,
    count(*) AS n_rows,
    count(*) FILTER (pos = 0) AS n_first
FROM measurements
SEMI JOIN first_ablations USING (run_id, ablation)
GROUP BY ALL
UNION ALL
SELECT run_id, ablation, 'logit_change' AS measure, layer, head, logit_change AS value, count(*) AS n_rows, NULL AS n_first
FROM measurements
GROUP BY ALL
UNION ALL
SELECT run_id, ablation, 'self_repair' AS measure, layer, head, self_repair AS value, count(*) AS n_rows, NULL AS n_first
FROM repair_rows
GROUP BY ALL
UNION ALL
SELECT run_id, ablation, 'ln_scale_ratio' AS measure, layer, head, ln_scale_ratio AS value, count(*) AS n_rows, NULL AS n_first
FROM measurements
GROUP BY ALL
