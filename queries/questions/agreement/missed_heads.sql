-- Which heads matter and would not be found by ablating them? Those that fall furthest from one ranking to the other.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (are important heads still found?)
--
-- Only heads among the first `among` by direct effect are looked at.
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs, one below the other
--   run_id INTEGER = NULL: Number of a run, as selfrepair runs lists it; NULL: the model's run, or all
--   ablation resample|mean|zero = resample: What the head's output is replaced by
--   population all|top2|top2_nobos = all: Which rows of a head (selfrepair describe head_repair)
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
