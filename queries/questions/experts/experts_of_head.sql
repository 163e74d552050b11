-- Which experts repair one head? Those of each MLP with the largest mean change, whichever way it goes.
--
-- Grain: run_id, mlp_layer, expert
-- Paper: none
--
-- Runs that did not measure experts, such as those of models without any, have no rows. Experts that are never chosen come
-- last.
--
-- Parameters:
--   model, run_id, ablation
--   population all|top2 = NULL: Rows used: all, or the head's top 2 % by direct effect; NULL: top2, or all of a run
--     that scores answers alone
--   layer, head
--   mlp_layer INTEGER = NULL: Layer of the MLP, from 0; NULL: all that were measured
--   at_most

SELECT
    run_id,
    model,
    label,
    mlp_layer,
    expert,
    mean_change,
    mean_rerouted_change,
    mean_kept_change,
    share_of_mlp,
    clean_rows,
    ablated_rows,
    n_rows
FROM expert_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
    AND layer = $layer
    AND head = $head
    AND ($mlp_layer IS NULL OR mlp_layer = $mlp_layer)
QUALIFY
    row_number() OVER (
        PARTITION BY run_id ORDER BY round(abs(mean_change), 6) DESC NULLS LAST, mlp_layer, expert
    ) <= $at_most
ORDER BY run_id, round(abs(mean_change), 6) DESC NULLS LAST, mlp_layer, expert
