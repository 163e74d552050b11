-- Self-repair of every ablated head prompt by prompt: means over all measured positions of the prompt.
--
-- Grain: run_id, ablation, layer, head, prompt_id
-- Headline: label, prompt_id, mean_direct_effect, mean_self_repair, n_rows, mean_logit_change,
--   mean_repair_layernorm, mean_repair_attention, mean_repair_mlp, mean_repair_post_norm
-- Paper: section 3 (how noisy self-repair is)
--
-- Computed from all rows: filter by run and head, or by prompt, for a quick answer. Failed runs are left out.
--
-- Columns:
--   n_rows BIGINT: Rows that the means cover [rows]
--   mean_direct_effect DOUBLE: Mean of direct_effect; > 0: pushes the correct token up [logits]
--   mean_ablated_direct_effect DOUBLE: Mean of ablated_direct_effect, the direct effect of the replaced output [logits]
--   mean_removed_effect DOUBLE: Mean of removed_effect, the drop in direct effect under ablation [logits]
--   mean_logit_change DOUBLE: Mean of logit_change; < 0: the ablation hurts [logits]
--   mean_self_repair DOUBLE: Mean of self_repair; > 0: the rest of the model compensated [logits]
--   mean_repair_layernorm DOUBLE: Mean of repair_layernorm, the LayerNorm repair: through the final norm's scale
--     [logits]
--   mean_repair_attention DOUBLE: Mean of repair_attention, the attention repair: through later attention layers
--     [logits]
--   mean_repair_mlp DOUBLE: Mean of repair_mlp, the MLP repair: through the same layer's and later MLPs [logits]
--   mean_repair_post_norm DOUBLE: Mean of repair_post_norm, the post-norm repair: through the norm of what the head's own
--     layer adds; NULL: the model has no post-norms [logits]
--   mean_ln_scale_ratio DOUBLE: Mean of ln_scale_ratio, S/S'; > 1: the scale shrank [ratio]

WITH prompt_means AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        prompt_id,
        count(*) AS n_rows,
        round(sum(direct_effect), 4) / count(*) AS mean_direct_effect,
        round(sum(ablated_direct_effect), 4) / count(*) AS mean_ablated_direct_effect,
        round(sum(removed_effect), 4) / count(*) AS mean_removed_effect,
        round(sum(logit_change), 4) / count(*) AS mean_logit_change,
        round(sum(self_repair), 4) / count(*) AS mean_self_repair,
        round(sum(repair_layernorm), 4) / count(*) AS mean_repair_layernorm,
        round(sum(repair_attention), 4) / count(*) AS mean_repair_attention,
        round(sum(repair_mlp), 4) / count(*) AS mean_repair_mlp,
        round(sum(repair_post_norm), 4) / count(*) AS mean_repair_post_norm,
        round(sum(ln_scale_ratio), 4) / count(*) AS mean_ln_scale_ratio
    FROM repair_rows
    GROUP BY run_id, ablation, layer, head, prompt_id
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    layer,
    head,
    head_label(layer, head) AS label,
    prompt_id,
    n_rows,
    mean_direct_effect,
    mean_ablated_direct_effect,
    mean_removed_effect,
    mean_logit_change,
    mean_self_repair,
    mean_repair_layernorm,
    mean_repair_attention,
    mean_repair_mlp,
    mean_repair_post_norm,
    mean_ln_scale_ratio
FROM prompt_means
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
