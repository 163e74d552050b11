-- What do single rows of a head look like? Direct effect and change in logit of rows drawn at random.
--
-- Grain: run_id, prompt_id, pos
-- Paper: sections 3 and 4 (the scatters of single rows)
--
-- Which rows are drawn depends only on prompt_id and pos, so two ablations, or two heads, show the same ones. They
-- come from prompts drawn first, with three times as many rows, so that not all prompts have to be read.
--
-- Parameters:
--   model, run_id, ablation, layer, head
--   at_most INTEGER = 2000: Rows to draw of each run, at most [rows]

WITH drawn_prompts AS (
    SELECT run_id, prompt_id
    FROM prompts
    WHERE $run_id IS NULL OR run_id = $run_id
    QUALIFY
        sum(len(token_ids) - 1) OVER (PARTITION BY run_id ORDER BY hash(prompt_id), prompt_id)
        < 3 * $at_most + len(token_ids) - 1
),
head_rows AS (
    SELECT repair_rows.*, models.name AS model
    FROM repair_rows
    INNER JOIN drawn_prompts USING (run_id, prompt_id)
    INNER JOIN runs USING (run_id)
    INNER JOIN models USING (model_id)
    WHERE
        ($model IS NULL OR models.name = $model)
        AND ($run_id IS NULL OR repair_rows.run_id = $run_id)
        AND repair_rows.ablation = $ablation
        AND repair_rows.layer = $layer
        AND repair_rows.head = $head
        AND runs.status <> 'failed'
    QUALIFY row_number() OVER (PARTITION BY repair_rows.run_id ORDER BY hash(prompt_id, pos), prompt_id, pos) <= $at_most
)
SELECT
    run_id,
    model,
    prompt_id,
    pos,
    direct_effect,
    logit_change,
    self_repair,
    removed_effect,
    repair_layernorm,
    repair_attention,
    repair_mlp,
    repair_post_norm,
    ln_scale_ratio
FROM head_rows
ORDER BY run_id, prompt_id, pos
