-- Building block: every measured row with the two quantities derived from its own columns.
--
-- Grain: run_id, ablation, layer, head, prompt_id, pos
-- Paper: section 2 (definitions)
--
-- Runs of every status are here. Rounding takes float noise off a difference of numbers that are stored in steps of
-- 1e-4 logits, so that "no self-repair" is exactly 0. (round(x, 4) means the same and takes twice as long.)
--
-- Columns:
--   removed_effect FLOAT: Drop in direct effect under ablation, direct_effect - ablated_direct_effect; > 0: the head
--     pushes the correct token up less [logits]
--   self_repair FLOAT: Self-repair: change in logit + drop in direct effect, logit_change + removed_effect; > 0: the
--     rest of the model compensated, < 0: it added to the damage; equals the sum of the repair_ columns within their
--     rounding, 3e-4 [logits]

SELECT
    run_id,
    ablation,
    prompt_id,
    pos,
    layer,
    head,
    direct_effect,
    ablated_direct_effect,
    in_steps(direct_effect - ablated_direct_effect) AS removed_effect,
    logit_change,
    in_steps(logit_change - (ablated_direct_effect - direct_effect)) AS self_repair,
    repair_layernorm,
    repair_attention,
    repair_mlp,
    repair_post_norm,
    ln_scale_ratio
FROM measurements
