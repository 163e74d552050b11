-- Building block: sums over a prompt's rows, for each head and population: what intervals clustered by prompt are made of.
--
-- Grain: run_id, ablation, population, layer, head, prompt_id
-- Paper: section 3
-- Kept: stage
--
-- A clipped fraction is a part of the repair as a share of its own row's direct_effect, held between 0 and 1. Rows with
-- direct_effect = 0 have none; they are in undefined_ratios and in every other column.
--
-- Columns:
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no clipped fraction and are not in its mean [rows]
--   repaired_rows BIGINT: Rows with self_repair > 0 [rows]
--   overrepaired_rows BIGINT: Rows with self_repair > direct_effect: more came back than the head had given [rows]
--   larger_frozen_rows BIGINT: Rows whose logit_change would be larger in size with the final norm's scale frozen:
--     |logit_change - repair_layernorm| > |logit_change| [rows]
--   sum_direct_effect DOUBLE: Sum of direct_effect [logits]
--   sum_ablated_direct_effect DOUBLE: Sum of ablated_direct_effect [logits]
--   sum_logit_change DOUBLE: Sum of logit_change [logits]
--   sum_repair_layernorm DOUBLE: Sum of repair_layernorm [logits]
--   sum_repair_attention DOUBLE: Sum of repair_attention [logits]
--   sum_repair_mlp DOUBLE: Sum of repair_mlp [logits]
--   sum_ln_scale_ratio DOUBLE: Sum of ln_scale_ratio [ratio]
--   sum_clipped_layernorm DOUBLE: Sum of the rows' clipped fraction of repair_layernorm [ratio]
--   sum_clipped_attention DOUBLE: Sum of the rows' clipped fraction of repair_attention [ratio]
--   sum_clipped_mlp DOUBLE: Sum of the rows' clipped fraction of repair_mlp [ratio]
--   sum_clipped_total DOUBLE: Sum of the rows' clipped fraction of self_repair [ratio]

WITH row_ratios AS (
    SELECT
        *,
        CAST(repair_layernorm AS DOUBLE) / nullif(direct_effect, 0) AS layernorm_ratio,
        CAST(repair_attention AS DOUBLE) / nullif(direct_effect, 0) AS attention_ratio,
        CAST(repair_mlp AS DOUBLE) / nullif(direct_effect, 0) AS mlp_ratio,
        CAST(self_repair AS DOUBLE) / nullif(direct_effect, 0) AS total_ratio
    FROM population_rows
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    prompt_id,
    count(*) AS n_rows,
    count(*) FILTER (direct_effect = 0) AS undefined_ratios,
    count(*) FILTER (self_repair > 0) AS repaired_rows,
    count(*) FILTER (self_repair > direct_effect) AS overrepaired_rows,
    -- |d - r| > |d| in a form that float noise cannot turn where the two are equal, r = 2 d
    count(*) FILTER (repair_layernorm * (repair_layernorm - 2 * logit_change) > 0) AS larger_frozen_rows,
    sum(direct_effect) AS sum_direct_effect,
    sum(ablated_direct_effect) AS sum_ablated_direct_effect,
    sum(logit_change) AS sum_logit_change,
    sum(repair_layernorm) AS sum_repair_layernorm,
    sum(repair_attention) AS sum_repair_attention,
    sum(repair_mlp) AS sum_repair_mlp,
    sum(ln_scale_ratio) AS sum_ln_scale_ratio,
    sum(CASE WHEN layernorm_ratio < 0 THEN 0 WHEN layernorm_ratio > 1 THEN 1 ELSE layernorm_ratio END) AS sum_clipped_layernorm,
    sum(CASE WHEN attention_ratio < 0 THEN 0 WHEN attention_ratio > 1 THEN 1 ELSE attention_ratio END) AS sum_clipped_attention,
    sum(CASE WHEN mlp_ratio < 0 THEN 0 WHEN mlp_ratio > 1 THEN 1 ELSE mlp_ratio END) AS sum_clipped_mlp,
    sum(CASE WHEN total_ratio < 0 THEN 0 WHEN total_ratio > 1 THEN 1 ELSE total_ratio END) AS sum_clipped_total
FROM row_ratios
GROUP BY run_id, ablation, population, layer, head, prompt_id
