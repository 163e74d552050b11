-- How is S/S', clean over ablated scale of the final norm, distributed? Histograms for each ablation type.
--
-- Grain: run_id, ablation, bin_low
-- Paper: section 4 (LayerNorm)
--
-- Of one head where layer and head are given, else of all heads of the run together.
--
-- Parameters:
--   model, run_id
--   population all|top2 = all: Rows used: all, or the head's top 2 % by direct effect
--   layer INTEGER = NULL: Layer of the head, from 0; NULL: all heads together
--   head INTEGER = NULL: Number of the head in its layer, from 0; NULL: all heads together

SELECT
    run_id,
    model,
    ablation,
    bin_low,
    bin_high,
    n_rows,
    bin_share
FROM layernorm_histogram
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND population = $population
    AND layer IS NOT DISTINCT FROM $layer
    AND head IS NOT DISTINCT FROM $head
ORDER BY run_id, ablation, bin_low
