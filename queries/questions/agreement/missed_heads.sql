-- Which important heads would ablation miss? Those that fall furthest from the ranking by direct effect to that by
-- logit change.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (does ablation still find important heads?)
--
-- Only the first `among` heads by direct effect are considered.
--
-- Parameters:
--   model, run_id, ablation, population = all
--   among INTEGER = 20: How many heads, the first by direct effect, count as important [heads]

SELECT
    run_id,
    model,
    label,
    direct_effect_rank,
    logit_change_rank,
    rank_difference,
    mean_direct_effect,
    mean_logit_change,
    mean_self_repair,
    missed_in_top10,
    missed_in_top20,
    n_rows,
    layer,
    head
FROM importance_rank
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
    AND direct_effect_rank <= $among
    AND rank_difference > 0
ORDER BY run_id, rank_difference DESC, direct_effect_rank
