-- LayerNorm frozen against free: the change in logit with the final norm's scale at its ablated and at its clean value.
--
-- Grain: run_id, ablation, population, layer, head
-- Headline: label, mean_logit_change, mean_frozen_logit_change, mean_repair_layernorm, larger_frozen_share, n_rows
-- Paper: section 4 (LayerNorm)
--
-- The final norm divides by another scale once a head is ablated; frozen, it divides by the clean one, and logit_change
-- loses repair_layernorm. Failed runs are left out.

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    layer,
    head,
    head_label(layer, head) AS label,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    n_rows,
    n_clusters,
    mean_logit_change,
    mean_logit_change_se,
    mean_logit_change_low,
    mean_logit_change_high,
    mean_frozen_logit_change,
    mean_frozen_logit_change_se,
    mean_frozen_logit_change_low,
    mean_frozen_logit_change_high,
    mean_repair_layernorm,
    mean_repair_layernorm_se,
    mean_repair_layernorm_low,
    mean_repair_layernorm_high,
    larger_frozen_share,
    larger_frozen_share_se,
    larger_frozen_share_low,
    larger_frozen_share_high
FROM repair_means
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE level = 'head' AND runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, layer, head
