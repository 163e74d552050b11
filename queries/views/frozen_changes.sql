-- Building block: on how many rows the final norm's scale holds the change in logit back.
--
-- Grain: run_id, ablation, population, layer, head
-- Paper: section 4 (LayerNorm)
-- Kept: mart
--
-- Columns:
--   larger_frozen_rows BIGINT: Rows whose logit_change would be larger in size with the final norm's scale frozen:
--     |logit_change - repair_layernorm| > |logit_change| [rows]

SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    -- |d - r| > |d| in a form that float noise cannot turn where the two are equal, r = 2 d
    count(*) FILTER (repair_layernorm * (repair_layernorm - 2 * logit_change) > 0) AS larger_frozen_rows
FROM population_rows
GROUP BY run_id, ablation, population, layer, head
