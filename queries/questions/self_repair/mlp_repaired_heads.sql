-- Which heads do MLPs repair most, as anti-erasure neurons would?
--
-- Grain: run_id, layer, head
-- Paper: section 5 (sparse anti-erasure by neurons)
--
-- Heads with much MLP repair, and its share in the whole: where to look for the neurons that do it (neurons_of_head).
--
-- Parameters:
--   model, run_id, ablation, population, at_most
--
-- Columns:
--   mlp_share_of_parts DOUBLE: |mean_repair_mlp| as a share of the parts' sizes together; NULL: all are 0
--     [ratio]

SELECT
    run_id,
    model,
    label,
    mean_repair_mlp,
    mean_repair_mlp_se,
    mlp_fraction_of_effect,
    mlp_fraction_of_effect_low,
    mlp_fraction_of_effect_high,
    abs(mean_repair_mlp)
    / nullif(
        abs(mean_repair_layernorm)
        + abs(mean_repair_attention)
        + abs(mean_repair_mlp)
        + coalesce(abs(mean_repair_post_norm), 0),
        0
    ) AS mlp_share_of_parts,
    mean_self_repair,
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
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_repair_mlp DESC, layer, head) <= $at_most
ORDER BY run_id, mean_repair_mlp DESC, layer, head
