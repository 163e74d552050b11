-- Which backup heads take over when given heads are ablated? Those that the run without given heads does not show.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 3 (self-repair by later attention layers)
--
-- Only runs with given heads (selfrepair ingest --given) have rows, and those only where the same model was measured on
-- the same prompts without. The head whose direct effect grows most comes first; intervals hold for all heads together.
--
-- Parameters:
--   model
--   run_id RUN = NULL: Number or name of a run with given heads, as selfrepair runs lists it, also given as run; NULL: all
--   population = all, at_most

SELECT
    run_id,
    model,
    ablation,
    given_heads,
    label,
    direct_effect_growth,
    direct_effect_growth_low,
    direct_effect_growth_high,
    verdict,
    mean_direct_effect,
    base_mean_direct_effect,
    logit_change_growth,
    mean_logit_change,
    base_mean_logit_change,
    growth_rank,
    n_rows,
    n_clusters,
    base_run_id,
    layer,
    head
FROM co_ablation
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND population = $population
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY growth_rank, ablation, layer, head) <= $at_most
ORDER BY run_id, growth_rank, ablation, layer, head
