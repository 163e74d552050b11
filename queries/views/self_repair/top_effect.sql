-- Every head's top 2 % of rows by clean direct effect, the highest first, with tokens and all effects.
--
-- Grain: run_id, ablation, layer, head, effect_rank
-- Headline: label, target, direct_effect, self_repair, logit_change, repair_layernorm, repair_attention, repair_mlp,
--   repair_post_norm, effect_rank
-- Paper: section 3 (top 2 % of tokens by direct effect)
--
-- Failed runs are left out. The rows of one head: WHERE run_id = 1 AND ablation = 'resample' AND layer = 9 AND head = 6
-- AND effect_rank <= 100.

SELECT
    run_id,
    models.name AS model,
    ablation,
    layer,
    head,
    head_label(layer, head) AS label,
    effect_rank,
    prompt_id,
    pos,
    tokens.token,
    tokens.target,
    tokens.foil,
    ranked_top_rows.* EXCLUDE (run_id, ablation, layer, head, effect_rank, prompt_id, pos)
FROM ranked_top_rows
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
INNER JOIN tokens USING (run_id, prompt_id, pos)
WHERE runs.status <> 'failed'
