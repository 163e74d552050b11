-- Every measured row with the names of its model, head and tokens, and its self-repair.
--
-- Grain: run_id, ablation, layer, head, prompt_id, pos
-- Headline: label, target, direct_effect, self_repair, logit_change, repair_layernorm, repair_attention, repair_mlp,
--   repair_post_norm
-- Paper: section 2 (definitions); section 3 (the scatter of single rows)
--
-- Runs of every status are here, failed ones too: `WHERE status <> 'failed'` leaves those out.
--
-- Columns:
--   repeats_prompt_id INTEGER: First prompt of the run with the same tokens up to here and the same target: the same
--     observation, which counts once in errors and intervals; NULL: no earlier one

SELECT
    run_id,
    models.name AS model,
    ablation,
    prompt_id,
    pos,
    layer,
    head,
    head_label(layer, head) AS label,
    tokens.token,
    tokens.target_id,
    tokens.target,
    tokens.foil,
    tokens.clean_logprob,
    tokens.clean_rank,
    tokens.clean_entropy,
    repeats_prompt_id,
    direct_effect,
    ablated_direct_effect,
    removed_effect,
    logit_change,
    self_repair,
    repair_layernorm,
    repair_attention,
    repair_mlp,
    repair_post_norm,
    ln_scale_ratio,
    runs.status
FROM repair_rows
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
INNER JOIN tokens USING (run_id, prompt_id, pos)
LEFT JOIN repeated_rows USING (run_id, prompt_id, pos)
