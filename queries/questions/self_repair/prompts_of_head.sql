-- On which prompts is one head repaired most? Means over each prompt's positions, the highest self-repair first.
--
-- Grain: run_id, prompt_id
-- Paper: section 4 (noise: means by prompt)
--
-- Parameters:
--   model, run_id, ablation, layer, head, at_most
--
-- Columns:
--   beginning VARCHAR: The first 60 characters of the prompt's text

WITH most_repaired AS (
    SELECT *
    FROM prompt_repair
    WHERE
        ($model IS NULL OR model = $model)
        AND ($run_id IS NULL OR run_id = $run_id)
        AND ablation = $ablation
        AND layer = $layer
        AND head = $head
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_self_repair DESC, prompt_id) <= $at_most
)
SELECT
    run_id,
    model,
    prompt_id,
    mean_self_repair,
    mean_direct_effect,
    mean_logit_change,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    n_rows,
    left(prompts.text, 60) AS beginning
FROM most_repaired
INNER JOIN prompts USING (run_id, prompt_id)
ORDER BY run_id, mean_self_repair DESC, prompt_id
