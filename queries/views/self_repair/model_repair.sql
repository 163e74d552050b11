-- Self-repair of a whole run: means over the rows of all its ablated heads, and three kinds of fraction, with intervals.
--
-- Grain: run_id, ablation, population
-- Headline: mean_direct_effect, mean_logit_change, mean_self_repair, total_fraction_of_effect, mean_repair_layernorm,
--   mean_repair_attention, mean_repair_mlp, mean_repair_post_norm, clipped_layernorm_fraction, n_rows
-- Paper: section 3
--
-- Means are over rows: those of all measured heads, pooled; for top2, each head's own top 2 %. The heads of a run have
-- equally many rows, so that a mean over heads is the same number. Failed runs are left out.

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
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
WHERE level = 'model' AND runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population
