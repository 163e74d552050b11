-- Which heads of a model are backup heads? Those whose direct effect grows most when earlier heads are ablated.
--
-- Grain: run_id, target_layer, target_head
-- Paper: section 3 (self-repair by later attention layers)
--
-- By score: the repair by a head in units of its own size, averaged over all ablated heads before it. Runs that did not
-- measure edges have no rows.
--
-- Parameters:
--   model, run_id, ablation
--   population all|top2 = NULL: Rows used: all, or the head's top 2 % by direct effect; NULL: top2, or all of a run
--     that scores answers alone
--   at_least INTEGER = 1: Only heads with at least this many ablated heads before them [heads]
--   at_most

SELECT
    run_id,
    model,
    target_label,
    score,
    score_low,
    score_high,
    n_repaired,
    n_ablated,
    n_top3,
    expected_top3,
    mean_change,
    relative_change,
    own_size,
    n_clusters,
    target_layer,
    target_head
FROM backup_heads
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
    AND n_ablated >= $at_least
QUALIFY
    row_number() OVER (
        PARTITION BY run_id
        ORDER BY score DESC NULLS LAST, relative_change DESC NULLS LAST, target_layer, target_head
    ) <= $at_most
ORDER BY run_id, score DESC NULLS LAST, relative_change DESC NULLS LAST, target_layer, target_head
