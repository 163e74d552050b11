-- Which heads are over-repaired? The highest share of rows with self-repair above direct effect first.
--
-- Grain: run_id, layer, head
-- Paper: section 4 (noise)
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs
--   run_id INTEGER = NULL: Number of a run (see the list of runs); NULL: the model's run, or all
--   ablation resample|mean|zero = resample: What the head's output is replaced by
--   population all|top2|top2_nobos = top2: Rows used: all; top2, each head's top 2 % by direct effect; top2_nobos, the
--     same without first positions
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
