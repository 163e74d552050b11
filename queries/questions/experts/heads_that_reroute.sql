-- Which heads make later MLPs choose other experts? Pairs of an ablated head and an MLP, those with most re-routed rows first.
--
-- Grain: run_id, layer, head, mlp_layer
-- Paper: none
--
-- Runs that did not measure experts, such as those of models without any, have no rows.
--
-- Parameters:
--   model, run_id, ablation
--   population all|top2 = NULL: Rows used: all, or the head's top 2 % by direct effect; NULL: top2, or all of a run
--     that scores answers alone
--   at_most

SELECT
    run_id,
    model,
    label,
    mlp_layer,
    rerouted_share,
    rerouted_share_low,
    rerouted_share_high,
    replaced_share,
    mean_weight_distance,
    mean_change,
    mean_rerouted_change,
    mean_kept_change,
    mean_shared_change,
    n_rows,
    n_clusters,
    layer,
    head
FROM rerouting
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
QUALIFY
    row_number() OVER (
        PARTITION BY run_id ORDER BY rerouted_share DESC, mean_weight_distance DESC, layer, head, mlp_layer
    ) <= $at_most
ORDER BY run_id, rerouted_share DESC, mean_weight_distance DESC, layer, head, mlp_layer
