-- Building block: sums over the rows in the top of each head, for every size of the top, with and without first positions.
--
-- Grain: run_id, ablation, layer, head, with_first, top_percent
-- Paper: section 3 (top 2 % of tokens by direct effect)
-- Kept: mart
--
-- The tops are those of top_cuts. A ratio is a part of the repair as a share of its own row's direct_effect; rows with
-- direct_effect = 0 have none; they are in undefined_ratios and in every other column.
--
-- Each row is read once: a head's 14 cuts below 100 %, from the highest down, part its rows into 15 stretches, and a top
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
--   sum_clipped_layernorm DOUBLE: Sum of the rows' repair_layernorm / direct_effect, each held within 0..1 [ratio]
--   sum_clipped_attention DOUBLE: Sum of the rows' repair_attention / direct_effect, each held within 0..1 [ratio]
--   sum_clipped_mlp DOUBLE: Sum of the rows' repair_mlp / direct_effect, each held within 0..1 [ratio]
--   sum_clipped_total DOUBLE: Sum of the rows' self_repair / direct_effect, each held within 0..1 [ratio]
--   stored_identity_error DOUBLE: Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the stored
--     rows; up to 3e-4 of it is rounding [logits]

WITH numbered_cuts AS (
    SELECT
        run_id,
        layer,
        head,
        with_first,
        top_percent,
        cut_effect,
        32768 * CAST(cut_prompt_id AS BIGINT) + cut_pos AS cut_place,
        CASE
            WHEN top_percent = 100 THEN 15
            ELSE row_number() OVER (
                PARTITION BY run_id, layer, head, top_percent = 100
                ORDER BY cut_effect DESC, cut_prompt_id, cut_pos
            )
        END AS cut_number
    FROM top_cuts
),
head_cuts AS (
    SELECT
        run_id,
        layer,
        head,
        max(cut_effect) FILTER (cut_number = 1) AS effect_1,
        max(cut_place) FILTER (cut_number = 1) AS place_1,
        max(cut_effect) FILTER (cut_number = 2) AS effect_2,
        max(cut_place) FILTER (cut_number = 2) AS place_2,
        max(cut_effect) FILTER (cut_number = 3) AS effect_3,
        max(cut_place) FILTER (cut_number = 3) AS place_3,
        max(cut_effect) FILTER (cut_number = 4) AS effect_4,
        max(cut_place) FILTER (cut_number = 4) AS place_4,
        max(cut_effect) FILTER (cut_number = 5) AS effect_5,
        max(cut_place) FILTER (cut_number = 5) AS place_5,
        max(cut_effect) FILTER (cut_number = 6) AS effect_6,
        max(cut_place) FILTER (cut_number = 6) AS place_6,
        max(cut_effect) FILTER (cut_number = 7) AS effect_7,
        max(cut_place) FILTER (cut_number = 7) AS place_7,
        max(cut_effect) FILTER (cut_number = 8) AS effect_8,
        max(cut_place) FILTER (cut_number = 8) AS place_8,
        max(cut_effect) FILTER (cut_number = 9) AS effect_9,
        max(cut_place) FILTER (cut_number = 9) AS place_9,
        max(cut_effect) FILTER (cut_number = 10) AS effect_10,
        max(cut_place) FILTER (cut_number = 10) AS place_10,
        max(cut_effect) FILTER (cut_number = 11) AS effect_11,
        max(cut_place) FILTER (cut_number = 11) AS place_11,
        max(cut_effect) FILTER (cut_number = 12) AS effect_12,
        max(cut_place) FILTER (cut_number = 12) AS place_12,
        max(cut_effect) FILTER (cut_number = 13) AS effect_13,
        max(cut_place) FILTER (cut_number = 13) AS place_13,
        max(cut_effect) FILTER (cut_number = 14) AS effect_14,
        max(cut_place) FILTER (cut_number = 14) AS place_14
    FROM numbered_cuts
    GROUP BY run_id, layer, head
),
placed_rows AS (
    SELECT
        repair_rows.*,
        32768 * CAST(prompt_id AS BIGINT) + pos AS place,
        head_cuts.* EXCLUDE (run_id, layer, head)
    FROM repair_rows
    INNER JOIN head_cuts USING (run_id, layer, head)
),
row_ratios AS (
    SELECT
        *,
        pos = 0 AS is_first,
        CASE
            WHEN direct_effect < effect_14 OR (direct_effect = effect_14 AND place > place_14) THEN 14
            WHEN direct_effect < effect_13 OR (direct_effect = effect_13 AND place > place_13) THEN 13
            WHEN direct_effect < effect_12 OR (direct_effect = effect_12 AND place > place_12) THEN 12
            WHEN direct_effect < effect_11 OR (direct_effect = effect_11 AND place > place_11) THEN 11
            WHEN direct_effect < effect_10 OR (direct_effect = effect_10 AND place > place_10) THEN 10
            WHEN direct_effect < effect_9 OR (direct_effect = effect_9 AND place > place_9) THEN 9
            WHEN direct_effect < effect_8 OR (direct_effect = effect_8 AND place > place_8) THEN 8
            WHEN direct_effect < effect_7 OR (direct_effect = effect_7 AND place > place_7) THEN 7
            WHEN direct_effect < effect_6 OR (direct_effect = effect_6 AND place > place_6) THEN 6
            WHEN direct_effect < effect_5 OR (direct_effect = effect_5 AND place > place_5) THEN 5
            WHEN direct_effect < effect_4 OR (direct_effect = effect_4 AND place > place_4) THEN 4
            WHEN direct_effect < effect_3 OR (direct_effect = effect_3 AND place > place_3) THEN 3
            WHEN direct_effect < effect_2 OR (direct_effect = effect_2 AND place > place_2) THEN 2
            WHEN direct_effect < effect_1 OR (direct_effect = effect_1 AND place > place_1) THEN 1
            ELSE 0
        END AS n_cuts_above,
        CAST(repair_layernorm AS DOUBLE) / nullif(direct_effect, 0) AS layernorm_ratio,
        CAST(repair_attention AS DOUBLE) / nullif(direct_effect, 0) AS attention_ratio,
        CAST(repair_mlp AS DOUBLE) / nullif(direct_effect, 0) AS mlp_ratio,
        CAST(self_repair AS DOUBLE) / nullif(direct_effect, 0) AS total_ratio
    FROM placed_rows
),
stretch_sums AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        is_first,
        n_cuts_above,
        count(*) AS n_rows,
        count(*) FILTER (direct_effect = 0) AS undefined_ratios,
        sum(direct_effect) AS direct_effect,
        sum(repair_layernorm) AS repair_layernorm,
        sum(repair_attention) AS repair_attention,
        sum(repair_mlp) AS repair_mlp,
        sum(self_repair) AS self_repair,
        sum(layernorm_ratio) AS layernorm_ratio,
        sum(attention_ratio) AS attention_ratio,
        sum(mlp_ratio) AS mlp_ratio,
        sum(total_ratio) AS total_ratio,
        sum(CASE WHEN layernorm_ratio < 0 THEN 0 WHEN layernorm_ratio > 1 THEN 1 ELSE layernorm_ratio END) AS clipped_layernorm,
        sum(CASE WHEN attention_ratio < 0 THEN 0 WHEN attention_ratio > 1 THEN 1 ELSE attention_ratio END) AS clipped_attention,
        sum(CASE WHEN mlp_ratio < 0 THEN 0 WHEN mlp_ratio > 1 THEN 1 ELSE mlp_ratio END) AS clipped_mlp,
        sum(CASE WHEN total_ratio < 0 THEN 0 WHEN total_ratio > 1 THEN 1 ELSE total_ratio END) AS clipped_total,
        max(abs(self_repair - repair_layernorm - repair_attention - repair_mlp)) AS identity_error
    FROM row_ratios
    GROUP BY run_id, ablation, layer, head, is_first, n_cuts_above
)
SELECT
    stretch_sums.run_id,
    stretch_sums.ablation,
    stretch_sums.layer,
    stretch_sums.head,
    numbered_cuts.with_first,
    numbered_cuts.top_percent,
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
    round(CAST(max(identity_error) AS DOUBLE), 4) AS stored_identity_error
FROM stretch_sums
INNER JOIN numbered_cuts
    ON numbered_cuts.run_id = stretch_sums.run_id
    AND numbered_cuts.layer = stretch_sums.layer
    AND numbered_cuts.head = stretch_sums.head
    AND numbered_cuts.cut_number > stretch_sums.n_cuts_above
    AND (numbered_cuts.with_first OR NOT stretch_sums.is_first)
GROUP BY
    stretch_sums.run_id,
    stretch_sums.ablation,
    stretch_sums.layer,
    stretch_sums.head,
    numbered_cuts.with_first,
    numbered_cuts.top_percent
