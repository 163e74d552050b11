-- Building block: each head's top 2 % of rows by clean direct effect, with their rank.
--
-- Grain: run_id, ablation, layer, head, effect_rank
-- Paper: section 3 (top 2 % of tokens by direct effect)
-- Kept: mart
--
-- The same rows for every ablation, since the clean direct effect is the same under each. Stored in the order of the
-- heads, so that one head's rows are found without reading the others.
--
-- Columns:
--   removed_effect FLOAT: Drop in direct effect under ablation, direct_effect - ablated_direct_effect; > 0: the head
--     pushes the correct token up less [logits]
--   self_repair FLOAT: Self-repair: change in logit + drop in direct effect, logit_change + removed_effect; > 0: the
--     rest of the model compensated, < 0: it added to the damage [logits]
--   effect_rank INTEGER: Place of the row among its head's by direct_effect; 1: the highest; ties by prompt_id, then pos

WITH cuts AS (
    SELECT run_id, layer, head, cut_effect, cut_prompt_id, cut_pos
    FROM top_cuts
    WHERE top_percent = 2 AND with_first
),
top_rows AS (
    SELECT
        measurements.*,
        row_number() OVER (
            PARTITION BY measurements.run_id, ablation, measurements.layer, measurements.head
            ORDER BY direct_effect DESC, prompt_id, pos
        ) AS effect_rank
    FROM measurements
    INNER JOIN cuts
        ON cuts.run_id = measurements.run_id
        AND cuts.layer = measurements.layer
        AND cuts.head = measurements.head
        AND direct_effect >= cut_effect
        AND (direct_effect > cut_effect OR (prompt_id, pos) <= (cut_prompt_id, cut_pos))
)
-- as in repair_rows: worked out for these rows alone
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
    ln_scale_ratio,
    CAST(effect_rank AS INTEGER) AS effect_rank
FROM top_rows
ORDER BY run_id, ablation, layer, head, effect_rank
