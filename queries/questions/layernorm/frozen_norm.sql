-- What if LayerNorm could not react? Every head's change in logit with the final norm's scale free and frozen.
--
-- Grain: run_id, layer, head
-- Paper: section 4 (LayerNorm)
--
-- The heads with the highest mean_repair_layernorm come first: those for which the norm does most.
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
    mean_logit_change,
    mean_frozen_logit_change,
    mean_repair_layernorm,
    larger_frozen_share,
    n_rows,
    layer,
    head
FROM frozen_layernorm
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_repair_layernorm DESC, layer, head) <= $at_most
ORDER BY run_id, mean_repair_layernorm DESC, layer, head
