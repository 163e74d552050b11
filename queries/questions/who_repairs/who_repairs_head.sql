-- What repairs one head? Later heads and the same layer's and later MLPs, the strongest repair first.
--
-- Grain: run_id, target_kind, target_layer, target_head
-- Paper: section 3 (self-repair by later attention layers and MLPs)
--
-- Runs that did not measure edges have no rows. LayerNorm repair is not among these: see most_repaired_heads. A verdict has a
-- margin, a hundredth of the head's |mean_removed_effect|, and holds for all edges of the run together (Bonferroni): see who_repairs.
--
-- Parameters:
--   model, run_id, ablation
--   population all|top2 = NULL: Rows used: all, or the head's top 2 % by direct effect; NULL: top2, or all of a run
--     that scores answers alone
--   layer, head
--   kind all|head|mlp = all: Heads, MLPs, or both
--   at_most

SELECT
    run_id,
    model,
    label,
    target_label,
    mean_change,
    mean_change_low,
    mean_change_high,
    verdict,
    margin,
    n_tested,
    standard_error,
    share_of_effect,
    share_of_repair,
    target_rank,
    n_rows,
    n_clusters,
    target_kind,
    target_layer,
    target_head
FROM who_repairs
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
    AND layer = $layer
    AND head = $head
    AND ($kind = 'all' OR CAST(target_kind AS VARCHAR) = $kind)
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY target_rank) <= $at_most
ORDER BY run_id, target_rank
