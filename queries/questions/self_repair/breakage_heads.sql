-- For which heads is self-repair negative (breakage)? The most negative mean self-repair first.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (breakage)
--
-- Heads whose direct effect drops under ablation; for one that pushes the correct token down, negative self-repair is
-- compensation.
--
-- Parameters:
--   model, run_id, ablation, population, at_most

SELECT
    run_id,
    model,
    label,
    mean_self_repair,
    mean_self_repair_se,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    mean_removed_effect,
    mean_direct_effect,
    mean_logit_change,
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
    AND mean_self_repair < 0
    AND mean_removed_effect > 0
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_self_repair, layer, head) <= $at_most
ORDER BY run_id, mean_self_repair, layer, head
