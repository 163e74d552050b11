-- What kind of token is repaired most? Self-repair by class of target, position, or target log-probability decile.
--
-- Grain: run_id, bucket_order
-- Paper: section 6 (iterative inference), for logprob_decile
--
-- Over all heads of the run, or one where layer and head are given.
--
-- Parameters:
--   model, run_id, ablation
--   population all|top2 = NULL: Rows used: all, or the head's top 2 % by direct effect; NULL: top2, or all of a run
--     that scores answers alone
--   dimension logprob_decile|position|token_class = token_class: How rows are grouped; logprob_decile: target
--     log-probability decile
--   layer INTEGER = NULL: Layer of the head, from 0; NULL: all heads together
--   head INTEGER = NULL: Number of the head in its layer, from 0; NULL: all heads together

SELECT
    run_id,
    model,
    bucket,
    n_rows,
    mean_self_repair,
    total_fraction_of_effect,
    mean_direct_effect,
    mean_logit_change,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    bucket_order
FROM repair_by_token
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
    AND dimension = $dimension
    AND layer IS NOT DISTINCT FROM $layer
    AND head IS NOT DISTINCT FROM $head
ORDER BY run_id, bucket_order
