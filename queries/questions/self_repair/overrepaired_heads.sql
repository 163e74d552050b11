-- For which heads does more come back than they had given? The highest share of over-repaired rows first.
--
-- Grain: run_id, layer, head
-- Paper: section 4 (noise)
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs, one below the other
--   run_id INTEGER = NULL: Number of a run, as selfrepair runs lists it; NULL: the model's run, or all
--   ablation resample|mean|zero = resample: What the head's output is replaced by
--   population all|top2|top2_nobos = top2: Which rows of a head (selfrepair describe head_repair)
--   at_most INTEGER = 20: Rows to show of each run, at most [rows]

SELECT
    run_id,
    model,
    label,
    overrepaired_share,
    overrepaired_share_se,
    repaired_share,
    mean_self_repair,
    mean_direct_effect,
    n_rows,
    layer,
    head
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY overrepaired_share DESC, layer, head) <= $at_most
ORDER BY run_id, overrepaired_share DESC, layer, head
