-- Building block: the rows that count, once for each population they belong to.
--
-- Grain: run_id, ablation, population, layer, head, prompt_id, pos
-- Paper: section 3
--
-- Rows of failed runs are left out; `selfrepair runs` shows which these are.
--
-- Columns:
--   population VARCHAR: Which rows of a head: 'all' measured positions, or 'top2', the 2 % with the highest clean
--     direct_effect (the same rows whatever the ablation)

WITH populations AS (
    SELECT 'all' AS population, all_rows.*
    FROM repair_rows AS all_rows
    UNION ALL
    SELECT 'top2' AS population, top2_rows.*
    FROM repair_rows AS top2_rows
    INNER JOIN top_rows USING (run_id, layer, head, prompt_id, pos)
)
SELECT
    run_id,
    ablation,
    population,
    prompt_id,
    pos,
    layer,
    head,
    direct_effect,
    ablated_direct_effect,
    removed_effect,
    logit_change,
    self_repair,
    repair_layernorm,
    repair_attention,
    repair_mlp,
    ln_scale_ratio
FROM populations
INNER JOIN runs USING (run_id)
WHERE runs.status <> 'failed'
