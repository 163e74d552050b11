-- How much is repaired, by what, and in which layers? The dots (heads) and lines (layers) of the paper's Figure 1.
--
-- Grain: run_id, level, layer, head
-- Paper: section 3 (Figure 1)
--
-- In logits, and as the paper's fraction of direct effect. The paper's figure has ablation resample and population
-- top2.
--
-- Parameters:
--   model, run_id, ablation, population
--
-- Columns:
--   level VARCHAR: What a row describes: 'head', a dot, or 'layer', a point of the line (head and label are NULL)

SELECT
    run_id,
    model,
    logit_of,
    'layer' AS level,
    layer,
    NULL::SMALLINT AS head,
    NULL::VARCHAR AS label,
    depth,
    mean_self_repair,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    clipped_total_fraction,
    clipped_layernorm_fraction,
    clipped_attention_fraction,
    clipped_mlp_fraction,
    clipped_post_norm_fraction,
    n_rows
FROM layer_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
UNION ALL
SELECT
    run_id,
    model,
    logit_of,
    'head' AS level,
    layer,
    head,
    label,
    depth,
    mean_self_repair,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    clipped_total_fraction,
    clipped_layernorm_fraction,
    clipped_attention_fraction,
    clipped_mlp_fraction,
    clipped_post_norm_fraction,
    n_rows
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
ORDER BY run_id, layer, level DESC, head
