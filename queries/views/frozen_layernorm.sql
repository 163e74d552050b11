-- What ablating a head does with the final norm's scale free to change, and with it frozen at its clean value.
--
-- Grain: run_id, ablation, population, layer, head
-- Paper: section 4 (LayerNorm)
--
-- The final norm divides by another scale once a head is ablated; frozen, it divides by the clean one, and logit_change is
-- without repair_layernorm. Failed runs are left out.
--
-- Columns:
--   mean_frozen_logit_change DOUBLE: Mean of logit_change with the scale frozen, logit_change - repair_layernorm;
--     < 0: the ablation hurts [logits]
--   larger_frozen_share DOUBLE: Rows where freezing makes the change larger in size, as a share of n_rows: there the norm
--     damps the ablation, whichever way it goes [ratio]

SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    head,
    label,
    depth,
    n_rows,
    mean_logit_change,
    mean_logit_change - mean_repair_layernorm AS mean_frozen_logit_change,
    mean_repair_layernorm,
    larger_frozen_rows / n_rows AS larger_frozen_share
FROM head_repair
INNER JOIN frozen_changes USING (run_id, ablation, population, layer, head)
ORDER BY run_id, ablation, population, layer, head
