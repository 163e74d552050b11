-- Building block: how often each value of an effect occurs among a head's rows: its whole distribution, exactly.
--
-- Grain: run_id, ablation, measure, layer, head, is_first, value
-- Paper: sections 3 and 5
-- Kept: stage
--
-- Effects are stored in steps of 1e-4, so that a head's rows have far fewer values than rows; quantiles, tails and
-- thresholds follow from the counts without sorting the rows.
--
-- Columns:
--   measure VARCHAR: Which number of a row: direct_effect, logit_change, self_repair or ln_scale_ratio
--   is_first BOOLEAN: True: rows at position 0, where models with a beginning-of-sequence token have it
--   value FLOAT: One value of the measure, as it is stored [logits or ratio]
--   n_rows BIGINT: Rows with this value [rows]

SELECT run_id, ablation, 'direct_effect' AS measure, layer, head, pos = 0 AS is_first, direct_effect AS value, count(*) AS n_rows
FROM repair_rows
GROUP BY ALL
UNION ALL
SELECT run_id, ablation, 'logit_change' AS measure, layer, head, pos = 0 AS is_first, logit_change AS value, count(*) AS n_rows
FROM repair_rows
GROUP BY ALL
UNION ALL
SELECT run_id, ablation, 'self_repair' AS measure, layer, head, pos = 0 AS is_first, self_repair AS value, count(*) AS n_rows
FROM repair_rows
GROUP BY ALL
UNION ALL
SELECT run_id, ablation, 'ln_scale_ratio' AS measure, layer, head, pos = 0 AS is_first, ln_scale_ratio AS value, count(*) AS n_rows
FROM repair_rows
GROUP BY ALL
