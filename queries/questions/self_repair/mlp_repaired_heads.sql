-- For which heads do later MLPs give back most, as neurons that stop suppressing the answer would?
--
-- Grain: run_id, layer, head
-- Paper: section 5 (sparse anti-erasure by neurons)
--
-- Which neurons do it is not measured; this shows where to look for them: heads with much repair by MLPs and a share
-- of it in the whole.
--
-- Parameters:
--   model VARCHAR = NULL: Name of a model that has one run; NULL: all runs, one below the other
--   run_id INTEGER = NULL: Number of a run, as selfrepair runs lists it; NULL: the model's run, or all
--   ablation resample|mean|zero = resample: What the head's output is replaced by
--   population all|top2|top2_nobos = top2: Which rows of a head (selfrepair describe head_repair)
--   at_most INTEGER = 20: Rows to show of each run, at most [rows]
--
-- Columns:
--   mlp_share_of_parts DOUBLE: |mean_repair_mlp| as a share of the three parts' sizes together; NULL: all are 0
--     [ratio]

SELECT
    run_id,
    model,
    label,
    mean_repair_mlp,
    mean_repair_mlp_se,
    mlp_fraction_of_effect,
    mlp_fraction_of_effect_low,
    mlp_fraction_of_effect_high,
    abs(mean_repair_mlp)
    / nullif(abs(mean_repair_layernorm) + abs(mean_repair_attention) + abs(mean_repair_mlp), 0) AS mlp_share_of_parts,
    mean_self_repair,
    mean_direct_effect,
    layer,
    head
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_repair_mlp DESC, layer, head) <= $at_most
ORDER BY run_id, mean_repair_mlp DESC, layer, head
