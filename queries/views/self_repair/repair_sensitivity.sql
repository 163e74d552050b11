-- How self-repair / direct effect depends on its definition: which rows, clipped or not, which average.
--
-- Grain: run_id, ablation, level, layer, head, part, with_first, top_percent, average, clipped
-- Headline: label, part, fraction, top_percent, with_first, average, clipped, level
-- Paper: section 3 (Figure 1 is top_percent 2, with_first, mean of ratios, clipped)
--
-- A mean of ratios averages the part / direct_effect of each row; rows with direct_effect = 0 have no ratio and are
-- left out of it. A ratio of means divides the sum of the part by the sum of direct_effect. Clipping to [0, 1] is of
-- each row's ratio before the mean, or the ratio of means itself. A model pools the rows of its heads, each head's own
-- top. Failed runs are left out.
--
-- Columns:
--   level VARCHAR: What a row describes: 'head', or 'model' (layer and head are NULL)
--   part VARCHAR: Which repair: 'layernorm', 'attention', 'mlp', or 'total' for self_repair, their sum
--   with_first BOOLEAN: True: the top is of all positions; False: of those after the first one of a prompt
--   top_percent DOUBLE: Share of each head's rows that are used, those with the highest direct_effect [%]
--   average VARCHAR: 'mean of ratios' or 'ratio of means'
--   clipped BOOLEAN: True: clipped to [0, 1]
--   fraction DOUBLE: Repair / direct effect of the part; NULL where the divisor is 0 [ratio]
--   n_rows BIGINT: Rows in the top [rows]

WITH level_sums AS (
    SELECT
        run_id,
        ablation,
        CASE grouping(head) WHEN 0 THEN 'head' ELSE 'model' END AS level,
        layer,
        head,
        with_first,
        top_percent,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
        round(sum(sum_direct_effect), 4) AS direct_effect,
        round(sum(sum_repair_layernorm), 4) AS repair_layernorm,
        round(sum(sum_repair_attention), 4) AS repair_attention,
        round(sum(sum_repair_mlp), 4) AS repair_mlp,
        round(sum(sum_self_repair), 4) AS self_repair,
        sum(sum_layernorm_ratio) AS layernorm_ratio,
        sum(sum_attention_ratio) AS attention_ratio,
        sum(sum_mlp_ratio) AS mlp_ratio,
        sum(sum_total_ratio) AS total_ratio,
        sum(sum_clipped_layernorm) AS clipped_layernorm,
        sum(sum_clipped_attention) AS clipped_attention,
        sum(sum_clipped_mlp) AS clipped_mlp,
        sum(sum_clipped_total) AS clipped_total
    FROM top_sums
    GROUP BY GROUPING SETS (
        (run_id, ablation, with_first, top_percent, layer, head),
        (run_id, ablation, with_first, top_percent)
    )
),
part_sums AS (
    SELECT
        run_id,
        ablation,
        level,
        layer,
        head,
        with_first,
        top_percent,
        n_rows,
        undefined_ratios,
        nullif(n_rows - undefined_ratios, 0) AS n_ratios,
        direct_effect,
        unnest([
            {'part': 'layernorm', 'repair': repair_layernorm, 'ratio': layernorm_ratio, 'clipped_ratio': clipped_layernorm},
            {'part': 'attention', 'repair': repair_attention, 'ratio': attention_ratio, 'clipped_ratio': clipped_attention},
            {'part': 'mlp', 'repair': repair_mlp, 'ratio': mlp_ratio, 'clipped_ratio': clipped_mlp},
            {'part': 'total', 'repair': self_repair, 'ratio': total_ratio, 'clipped_ratio': clipped_total}
        ], recursive := true)
    FROM level_sums
),
part_fractions AS (
    SELECT *, repair / nullif(direct_effect, 0) AS ratio_of_means
    FROM part_sums
),
fractions AS (
    SELECT
        run_id,
        ablation,
        level,
        layer,
        head,
        with_first,
        top_percent,
        part,
        n_rows,
        undefined_ratios,
        unnest([
            {'average': 'mean of ratios', 'clipped': false, 'fraction': ratio / n_ratios},
            {'average': 'mean of ratios', 'clipped': true, 'fraction': clipped_ratio / n_ratios},
            {'average': 'ratio of means', 'clipped': false, 'fraction': ratio_of_means},
            {
                'average': 'ratio of means',
                'clipped': true,
                'fraction': CASE WHEN ratio_of_means < 0 THEN 0 WHEN ratio_of_means > 1 THEN 1 ELSE ratio_of_means END
            }
        ], recursive := true)
    FROM part_fractions
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    level,
    layer,
    head,
    head_label(layer, head) AS label,
    part,
    with_first,
    top_percent,
    average,
    clipped,
    fraction,
    n_rows,
    undefined_ratios
FROM fractions
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
