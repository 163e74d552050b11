-- The histogram of S/S', clean over ablated scale of the final norm, in bins of 0.005, by head and over a whole run.
--
-- Grain: run_id, ablation, population, level, layer, head, bin_low
-- Paper: section 4 (LayerNorm)
--
-- A bin holds its lower edge and not its upper one, so that a ratio of exactly 1 is in the first bin above 1. The two
-- outermost bins, from 0.75 and from 1.245 on, hold everything beyond, too. Bins without rows are left out, and so are failed
-- runs.
--
-- Columns:
--   label VARCHAR: Name of the head, such as L9H6; NULL at level 'model'
--   bin_low DOUBLE: Lower edge of the bin [ratio]
--   bin_high DOUBLE: Upper edge of the bin [ratio]
--   bin_share DOUBLE: Rows in the bin as a share of all of the histogram [ratio]

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    level,
    layer,
    head,
    head_label(layer, head) AS label,
    (200.0::DOUBLE + bin) / 200 AS bin_low,
    (201.0::DOUBLE + bin) / 200 AS bin_high,
    n_rows,
    n_rows / sum(n_rows) OVER (PARTITION BY run_id, ablation, population, level, layer, head) AS bin_share
FROM layernorm_bins
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, level, layer, head, bin_low
