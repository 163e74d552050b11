-- Which heads are repaired most? The highest mean self-repair first, with its LayerNorm, attention and MLP parts.
--
-- Grain: run_id, layer, head
-- Paper: section 3 (Figure 1)
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
    mean_self_repair,
    mean_self_repair_se,
    total_fraction_of_effect,
    total_fraction_of_effect_low,
    total_fraction_of_effect_high,
    mean_direct_effect,
    mean_logit_change,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    layer,
    head
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_self_repair DESC, layer, head) <= $at_most
ORDER BY run_id, mean_self_repair DESC, layer, head
