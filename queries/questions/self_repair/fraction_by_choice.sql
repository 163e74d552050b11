-- Does the definition matter? One part's fraction of direct effect under every definition.
--
-- Grain: run_id, ablation, with_first, top_percent, average, clipped
-- Paper: section 3 (Figure 1 is top_percent 2, with_first, mean of ratios, clipped)
--
-- Of one head where layer and head are given, else of all heads of the run together. The paper's own choices come
-- first. Intervals are clustered by document (repair_sensitivity). Means of ratios that are not clipped have none where the rows
-- reach down to direct effects near 0, for single rows decide them; in the top 1 and 0.5 %, intervals are a little short.
--
-- Parameters:
--   model, run_id, ablation
--   part total|layernorm|attention|mlp|post_norm = layernorm: Which repair; total: self-repair, the sum of the others;
--     post_norm: of models that have post-norms
--   layer INTEGER = NULL: Layer of the head, from 0; NULL: all heads together
--   head INTEGER = NULL: Number of the head in its layer, from 0; NULL: all heads together

SELECT
    run_id,
    model,
    fraction,
    fraction_low,
    fraction_high,
    top_percent,
    average,
    clipped,
    with_first,
    n_clusters,
    n_rows,
    undefined_ratios,
    ablation
FROM repair_sensitivity
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND part = $part
    AND layer IS NOT DISTINCT FROM $layer
    AND head IS NOT DISTINCT FROM $head
ORDER BY run_id, top_percent <> 2, with_first DESC, average, clipped DESC, top_percent
