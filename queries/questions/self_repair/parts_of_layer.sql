-- What repairs the heads of one layer? LayerNorm, attention, MLP and post-norm repair of each head.
--
-- Grain: run_id, head, part
-- Paper: section 3 (the bars by head)
--
-- Parameters:
--   model, run_id, ablation, population
--   layer INTEGER: Layer of the ablated heads, from 0
--
-- Columns:
--   part VARCHAR: Which repair: 'layernorm', 'attention', 'mlp', 'post_norm' (of models that have post-norms), or 'total' for
--     self_repair, their sum
--   mean_repair DOUBLE: Mean repair by the part; > 0: it compensated [logits]
--   fraction_of_effect DOUBLE: Sum of the part / sum of direct_effect [ratio]
--   fraction_low DOUBLE: Lower end of the 95 % interval of fraction_of_effect [ratio]
--   fraction_high DOUBLE: Upper end of the 95 % interval of fraction_of_effect [ratio]

WITH parts AS (
    SELECT
        run_id,
        model,
        label,
        unnest([
            {
                'part': 'total',
                'mean_repair': mean_self_repair,
                'mean_repair_se': mean_self_repair_se,
                'fraction_of_effect': total_fraction_of_effect,
                'fraction_low': total_fraction_of_effect_low,
                'fraction_high': total_fraction_of_effect_high
            },
            {
                'part': 'layernorm',
                'mean_repair': mean_repair_layernorm,
                'mean_repair_se': mean_repair_layernorm_se,
                'fraction_of_effect': layernorm_fraction_of_effect,
                'fraction_low': layernorm_fraction_of_effect_low,
                'fraction_high': layernorm_fraction_of_effect_high
            },
            {
                'part': 'attention',
                'mean_repair': mean_repair_attention,
                'mean_repair_se': mean_repair_attention_se,
                'fraction_of_effect': attention_fraction_of_effect,
                'fraction_low': attention_fraction_of_effect_low,
                'fraction_high': attention_fraction_of_effect_high
            },
            {
                'part': 'mlp',
                'mean_repair': mean_repair_mlp,
                'mean_repair_se': mean_repair_mlp_se,
                'fraction_of_effect': mlp_fraction_of_effect,
                'fraction_low': mlp_fraction_of_effect_low,
                'fraction_high': mlp_fraction_of_effect_high
            },
            {
                'part': 'post_norm',
                'mean_repair': mean_repair_post_norm,
                'mean_repair_se': mean_repair_post_norm_se,
                'fraction_of_effect': post_norm_fraction_of_effect,
                'fraction_low': post_norm_fraction_of_effect_low,
                'fraction_high': post_norm_fraction_of_effect_high
            }
        ], recursive := true),
        mean_direct_effect,
        n_rows,
        n_clusters,
        layer,
        head
    FROM head_repair
    WHERE
        ($model IS NULL OR model = $model)
        AND ($run_id IS NULL OR run_id = $run_id)
        AND ablation = $ablation
        AND population = coalesce($population, default_population(run_id))
        AND layer = $layer
)
SELECT
    run_id,
    model,
    label,
    part,
    mean_repair,
    mean_repair_se,
    fraction_of_effect,
    fraction_low,
    fraction_high,
    mean_direct_effect,
    n_rows,
    n_clusters,
    layer,
    head
FROM parts
WHERE part <> 'post_norm' OR mean_repair IS NOT NULL
ORDER BY run_id, head, part = 'total' DESC, part
