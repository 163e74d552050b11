-- Self-repair of every layer's ablated heads together: means over their rows, and three kinds of fraction, with intervals.
--
-- Grain: run_id, ablation, population, layer
-- Headline: layer, mean_direct_effect, mean_logit_change, mean_self_repair, mean_repair_layernorm,
--   mean_repair_attention, mean_repair_mlp, mean_repair_post_norm, total_fraction_of_effect, clipped_layernorm_fraction, n_rows
-- Paper: section 3 (Figure 1, the lines)
--
-- Means are over rows: those of the layer's heads, pooled; for top2, each head's own top 2 %. The heads of a run have
-- equally many rows, so that a mean over heads is the same number. Failed runs are left out.

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    layer,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    repair_means.* EXCLUDE (
        run_id, ablation, population, level, layer, head,
        mean_frozen_logit_change, mean_frozen_logit_change_se, mean_frozen_logit_change_low, mean_frozen_logit_change_high,
        larger_frozen_share, larger_frozen_share_se, larger_frozen_share_low, larger_frozen_share_high
    ),
    coalesce(runs.logit_of, 'next_token') AS logit_of,
    runs.status
FROM repair_means
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE level = 'layer' AND runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, layer
