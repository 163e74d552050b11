-- Self-repair of every ablated head: means over the rows of a population, and three kinds of fraction, with intervals.
--
-- Grain: run_id, ablation, population, layer, head
-- Headline: label, mean_direct_effect, mean_logit_change, mean_self_repair, mean_repair_layernorm,
--   mean_repair_attention, mean_repair_mlp, mean_repair_post_norm, total_fraction_of_effect, clipped_layernorm_fraction, n_rows
-- Paper: section 3 (Figure 1 in population top2; the scatter of direct effect against logit change in all)
--
-- Failed runs are left out; running ones cover what is loaded (`selfrepair runs` lists them). Join runs and models by
-- run_id and model_id to see how a run was measured.

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    layer,
    head,
    head_label(layer, head) AS label,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    repair_means.* EXCLUDE (
        run_id, ablation, population, level, layer, head, n_heads,
        mean_frozen_logit_change, mean_frozen_logit_change_se, mean_frozen_logit_change_low, mean_frozen_logit_change_high,
        larger_frozen_share, larger_frozen_share_se, larger_frozen_share_low, larger_frozen_share_high
    ),
    coalesce(runs.logit_of, 'next_token') AS logit_of,
    runs.status
FROM repair_means
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE level = 'head' AND runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, layer, head
