-- What repairs one head? Later heads and MLPs, the strongest repair first, those that add to the damage last.
--
-- Grain: run_id, target_kind, target_layer, target_head
-- Paper: section 3 (self-repair by later attention layers and MLPs)
--
-- Runs that did not measure edges have no rows. LayerNorm repair is not among these: see most_repaired_heads.
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs
--   run_id INTEGER = NULL: Number of a run (see the list of runs); NULL: the model's run, or all
--   ablation resample|mean|zero = resample: What the head's output is replaced by
--   population all|top2 = top2: Rows used: all, or the head's top 2 % by direct effect
--   layer INTEGER: Layer of the head, from 0
--   head INTEGER: Number of the head in its layer, from 0
--   kind all|head|mlp = all: Heads, MLPs, or both
--   at_most INTEGER = 20: Rows to show of each run, at most [rows]

SELECT
    run_id,
    model,
    label,
    target_label,
    mean_change,
    standard_error,
    share_of_effect,
    share_of_repair,
    target_rank,
    n_rows,
    target_kind,
    target_layer,
    target_head
FROM who_repairs
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
    AND layer = $layer
    AND head = $head
    AND ($kind = 'all' OR CAST(target_kind AS VARCHAR) = $kind)
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY target_rank) <= $at_most
ORDER BY run_id, target_rank
