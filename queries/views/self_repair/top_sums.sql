-- Building block: sums over the rows in the top of each head, for every size of the top, with and without first positions.
--
-- Grain: run_id, ablation, layer, head, with_first, top_percent
-- Paper: section 3 (top 2 % of tokens by direct effect)
-- Kept: mart
--
-- The tops are those of top_cuts. A ratio is a part of the repair as a share of its own row's direct_effect; rows with
-- direct_effect = 0 have none; they are in undefined_ratios and in every other column.
--
-- Each row is read once: a head's 18 cuts below 100 %, from the highest down, part its rows into 19 stretches, and a top
-- is all stretches above its cut.
--
-- Columns:
--   n_rows BIGINT: Rows that the sums cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no ratio and are not in its sums [rows]
--   sum_direct_effect DOUBLE: Sum of direct_effect [logits]
--   sum_repair_layernorm DOUBLE: Sum of repair_layernorm [logits]
--   sum_repair_attention DOUBLE: Sum of repair_attention [logits]
--   sum_repair_mlp DOUBLE: Sum of repair_mlp [logits]
--   sum_self_repair DOUBLE: Sum of self_repair [logits]
--   sum_layernorm_ratio DOUBLE: Sum of the rows' repair_layernorm / direct_effect [ratio]
--   sum_attention_ratio DOUBLE: Sum of the rows' repair_attention / direct_effect [ratio]
--   sum_mlp_ratio DOUBLE: Sum of the rows' repair_mlp / direct_effect [ratio]
--   sum_total_ratio DOUBLE: Sum of the rows' self_repair / direct_effect [ratio]
--   sum_clipped_layernorm DOUBLE: Sum of the rows' repair_layernorm / direct_effect, each clipped to [0, 1] [ratio]
--   sum_clipped_attention DOUBLE: Sum of the rows' repair_attention / direct_effect, each clipped to [0, 1] [ratio]
--   sum_clipped_mlp DOUBLE: Sum of the rows' repair_mlp / direct_effect, each clipped to [0, 1] [ratio]
--   sum_clipped_total DOUBLE: Sum of the rows' self_repair / direct_effect, each clipped to [0, 1] [ratio]
--   stored_identity_error DOUBLE: Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the stored
--     rows; up to 3e-4 of it is rounding [logits]

WITH head_stretches AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        is_first,
        n_cuts_above,
        sum(n_rows) AS n_rows,
        sum(undefined_ratios) AS undefined_ratios,
        sum(sum_direct_effect) AS direct_effect,
        sum(sum_repair_layernorm) AS repair_layernorm,
        sum(sum_repair_attention) AS repair_attention,
        sum(sum_repair_mlp) AS repair_mlp,
        sum(sum_self_repair) AS self_repair,
        sum(sum_layernorm_ratio) AS layernorm_ratio,
        sum(sum_attention_ratio) AS attention_ratio,
        sum(sum_mlp_ratio) AS mlp_ratio,
        sum(sum_total_ratio) AS total_ratio,
        sum(sum_clipped_layernorm) AS clipped_layernorm,
        sum(sum_clipped_attention) AS clipped_attention,
        sum(sum_clipped_mlp) AS clipped_mlp,
        sum(sum_clipped_total) AS clipped_total,
        max(stored_identity_error) AS identity_error,
        max(stored_identity_excess) AS identity_excess
    FROM stretch_sums
    GROUP BY run_id, ablation, layer, head, is_first, n_cuts_above
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    with_first,
    top_percent,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
    round(sum(direct_effect), 4) AS sum_direct_effect,
    round(sum(repair_layernorm), 4) AS sum_repair_layernorm,
    round(sum(repair_attention), 4) AS sum_repair_attention,
    round(sum(repair_mlp), 4) AS sum_repair_mlp,
    round(sum(self_repair), 4) AS sum_self_repair,
    coalesce(sum(layernorm_ratio), 0) AS sum_layernorm_ratio,
    coalesce(sum(attention_ratio), 0) AS sum_attention_ratio,
    coalesce(sum(mlp_ratio), 0) AS sum_mlp_ratio,
    coalesce(sum(total_ratio), 0) AS sum_total_ratio,
    coalesce(sum(clipped_layernorm), 0) AS sum_clipped_layernorm,
    coalesce(sum(clipped_attention), 0) AS sum_clipped_attention,
    coalesce(sum(clipped_mlp), 0) AS sum_clipped_mlp,
    coalesce(sum(clipped_total), 0) AS sum_clipped_total,
    round(max(identity_error), 4) AS stored_identity_error,
    max(identity_excess) AS stored_identity_excess
FROM head_stretches
INNER JOIN top_cuts USING (run_id, layer, head)
WHERE cut_number > n_cuts_above AND (with_first OR NOT is_first) AND top_percent NOT IN (1.4, 2.6)
GROUP BY run_id, ablation, layer, head, with_first, top_percent
