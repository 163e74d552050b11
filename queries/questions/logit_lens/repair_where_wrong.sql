-- Are heads repaired where the logit lens is still wrong? The largest difference in self-repair to where it is correct
-- first.
--
-- Grain: run_id, layer, head
-- Paper: section 6 (iterative inference)
--
-- The prediction is read after the head's layer. Heads without rows of both kinds are left out, and so are runs that
-- did not measure the logit lens.
--
-- Parameters:
--   model, run_id, ablation
--   population all|top2 = all: Rows used: all, or the head's top 2 % by direct effect
--   at_most

SELECT
    run_id,
    model,
    label,
    self_repair_difference,
    self_repair_difference_se,
    mean_self_repair_wrong,
    mean_self_repair_right,
    mean_direct_effect_wrong,
    mean_direct_effect_right,
    n_wrong,
    n_right,
    n_clusters,
    layer,
    head
FROM repair_by_logit_lens
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
    AND self_repair_difference IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY self_repair_difference DESC, layer, head) <= $at_most
ORDER BY run_id, self_repair_difference DESC, layer, head
