-- Does the definition matter? One part's fraction of direct effect under every definition.
--
-- Grain: run_id, ablation, with_first, top_percent, average, clipped
-- Paper: section 3 (Figure 1 is top_percent 2, with_first, mean of ratios, clipped)
--
-- Of one head where layer and head are given, else of all heads of the run together. The paper's own choices come
-- first. The top 2 % and all rows have intervals, clustered by document: those of head_repair and model_repair, clipped where
-- the fraction is. The others have none, for their sums are not kept by document, and neither have means of ratios that are not
-- clipped, which single rows decide.
--
-- Parameters:
--   model, run_id, ablation
--   part total|layernorm|attention|mlp = layernorm: Which repair; total: self-repair, the sum of the three
--   layer INTEGER = NULL: Layer of the head, from 0; NULL: all heads together
--   head INTEGER = NULL: Number of the head in its layer, from 0; NULL: all heads together
--
-- Columns:
--   fraction_low DOUBLE: Lower end of the 95 % interval of fraction; NULL: it has none, or is unbounded [ratio]
--   fraction_high DOUBLE: Upper end of the 95 % interval of fraction; NULL: it has none, or is unbounded [ratio]

WITH ends AS (
    SELECT
        run_id,
        ablation,
        population <> 'top2_nobos' AS with_first,
        CASE population WHEN 'all' THEN 100 ELSE 2 END AS top_percent,
        unnest([
            {
                'part': 'layernorm',
                'low': layernorm_fraction_of_effect_low,
                'high': layernorm_fraction_of_effect_high,
                'low_of_clipped': clipped_layernorm_fraction_low,
                'high_of_clipped': clipped_layernorm_fraction_high
            },
            {
                'part': 'attention',
                'low': attention_fraction_of_effect_low,
                'high': attention_fraction_of_effect_high,
                'low_of_clipped': clipped_attention_fraction_low,
                'high_of_clipped': clipped_attention_fraction_high
            },
            {
                'part': 'mlp',
                'low': mlp_fraction_of_effect_low,
                'high': mlp_fraction_of_effect_high,
                'low_of_clipped': clipped_mlp_fraction_low,
                'high_of_clipped': clipped_mlp_fraction_high
            },
            {
                'part': 'total',
                'low': total_fraction_of_effect_low,
                'high': total_fraction_of_effect_high,
                'low_of_clipped': clipped_total_fraction_low,
                'high_of_clipped': clipped_total_fraction_high
            }
        ], recursive := true)
    FROM repair_means
    WHERE level <> 'layer' AND layer IS NOT DISTINCT FROM $layer AND head IS NOT DISTINCT FROM $head
)
SELECT
    run_id,
    model,
    fraction,
    CASE
        WHEN average = 'ratio of means' THEN CASE WHEN clipped THEN clipped(low) ELSE low END
        WHEN clipped THEN low_of_clipped
    END AS fraction_low,
    CASE
        WHEN average = 'ratio of means' THEN CASE WHEN clipped THEN clipped(high) ELSE high END
        WHEN clipped THEN high_of_clipped
    END AS fraction_high,
    top_percent,
    average,
    clipped,
    with_first,
    n_rows,
    undefined_ratios,
    ablation
FROM repair_sensitivity
LEFT JOIN ends USING (run_id, ablation, with_first, top_percent, part)
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND part = $part
    AND repair_sensitivity.layer IS NOT DISTINCT FROM $layer
    AND repair_sensitivity.head IS NOT DISTINCT FROM $head
ORDER BY run_id, top_percent <> 2, with_first DESC, average, clipped DESC, top_percent
