-- Building block: sums over a prompt's rows, for each head and population: from which intervals clustered by prompt
-- are computed.
--
-- Grain: run_id, ablation, population, layer, head, prompt_id
-- Paper: section 3
-- Kept: stage
--
-- A clipped fraction is a part of the repair as a share of its own row's direct_effect, clipped to [0, 1]. Rows with
-- direct_effect = 0 have none; they are in undefined_ratios and in every other column.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows for every ablation); 'top2_nobos', the same among positions after the first one
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no clipped fraction and are not in its mean [rows]
--   repaired_rows BIGINT: Rows with self_repair > 0 [rows]
--   overrepaired_rows BIGINT: Rows with self_repair > direct_effect: over-repaired, where direct_effect is above 0
--     [rows]
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

WITH top_stretches AS (
    SELECT CASE WHEN with_first THEN 'top2' ELSE 'top2_nobos' END AS population, stretch_sums.*
    FROM stretch_sums
    INNER JOIN top_cuts USING (run_id, layer, head)
    WHERE top_percent = 2 AND cut_number > n_cuts_above AND (with_first OR NOT is_first)
),
population_stretches AS (
    SELECT 'all' AS population, *
    FROM stretch_sums
    UNION ALL
    SELECT *
    FROM top_stretches
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    prompt_id,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
    CAST(sum(repaired_rows) AS BIGINT) AS repaired_rows,
    CAST(sum(overrepaired_rows) AS BIGINT) AS overrepaired_rows,
    CAST(sum(larger_frozen_rows) AS BIGINT) AS larger_frozen_rows,
    sum(sum_direct_effect) AS sum_direct_effect,
    sum(sum_ablated_direct_effect) AS sum_ablated_direct_effect,
    sum(sum_logit_change) AS sum_logit_change,
    sum(sum_repair_layernorm) AS sum_repair_layernorm,
    sum(sum_repair_attention) AS sum_repair_attention,
    sum(sum_repair_mlp) AS sum_repair_mlp,
    sum(sum_ln_scale_ratio) AS sum_ln_scale_ratio,
    sum(sum_clipped_layernorm) AS sum_clipped_layernorm,
    sum(sum_clipped_attention) AS sum_clipped_attention,
    sum(sum_clipped_mlp) AS sum_clipped_mlp,
    sum(sum_clipped_total) AS sum_clipped_total
FROM population_stretches
GROUP BY run_id, ablation, population, layer, head, prompt_id
