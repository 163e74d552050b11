-- Building block: sums over a prompt's rows between two neighbouring cuts of a head (top_cuts): what every top is made of.
--
-- Grain: run_id, ablation, layer, head, prompt_id, repeated_cluster_id, is_first, n_cuts_above
-- Paper: section 3
-- Kept: stage
--
-- The one pass over all rows from which the sums of every population and every top follow: a row is in a top if it
-- lies above that top's cut, and at position 0 only if that counts. Rows with direct_effect = 0 have no ratio; they
-- are in undefined_ratios and in every column that is not a ratio.
--
-- Columns:
--   repeated_cluster_id INTEGER: Document of the earlier prompt that these rows repeat (repeated_rows); NULL: they repeat none
--   is_first BOOLEAN: True: the row at position 0
--   n_cuts_above TINYINT: Cuts of the head that these rows lie below: 0 to 18
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no ratio [rows]
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
--   sum_repair_post_norm DOUBLE: Sum of repair_post_norm; NULL: the model has no post-norms [logits]
--   sum_self_repair DOUBLE: Sum of self_repair [logits]
--   sum_ln_scale_ratio DOUBLE: Sum of ln_scale_ratio [ratio]
--   sum_layernorm_ratio DOUBLE: Sum of the rows' repair_layernorm / direct_effect; NULL: no row has one [ratio]
--   sum_attention_ratio DOUBLE: Sum of the rows' repair_attention / direct_effect; NULL: no row has one [ratio]
--   sum_mlp_ratio DOUBLE: Sum of the rows' repair_mlp / direct_effect; NULL: no row has one [ratio]
--   sum_post_norm_ratio DOUBLE: Sum of the rows' repair_post_norm / direct_effect; NULL: no row has one [ratio]
--   sum_total_ratio DOUBLE: Sum of the rows' self_repair / direct_effect; NULL: no row has one [ratio]
--   sum_clipped_layernorm DOUBLE: Sum of the rows' repair_layernorm / direct_effect, each clipped to [0, 1]; NULL: no
--     row has one [ratio]
--   sum_clipped_attention DOUBLE: Sum of the rows' repair_attention / direct_effect, each clipped to [0, 1]; NULL: no
--     row has one [ratio]
--   sum_clipped_mlp DOUBLE: Sum of the rows' repair_mlp / direct_effect, each clipped to [0, 1]; NULL: no row has one
--     [ratio]
--   sum_clipped_post_norm DOUBLE: Sum of the rows' repair_post_norm / direct_effect, each clipped to [0, 1]; NULL: no
--     row has one [ratio]
--   sum_clipped_total DOUBLE: Sum of the rows' self_repair / direct_effect, each clipped to [0, 1]; NULL: no row has
--     one [ratio]
--   stored_identity_excess DOUBLE: The largest such error as a share of what rounding explains; > 1: damaged [ratio]
--   stored_identity_error DOUBLE: Largest |self_repair - sum of the repair_ columns| [logits]

WITH placed_cuts AS (
    SELECT *, 32768 * CAST(cut_prompt_id AS BIGINT) + cut_pos AS cut_place
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
        max(cut_place) FILTER (cut_number = 14) AS place_14,
        max(cut_effect) FILTER (cut_number = 15) AS effect_15,
        max(cut_place) FILTER (cut_number = 15) AS place_15,
        max(cut_effect) FILTER (cut_number = 16) AS effect_16,
        max(cut_place) FILTER (cut_number = 16) AS place_16,
        max(cut_effect) FILTER (cut_number = 17) AS effect_17,
        max(cut_place) FILTER (cut_number = 17) AS place_17,
        max(cut_effect) FILTER (cut_number = 18) AS effect_18,
        max(cut_place) FILTER (cut_number = 18) AS place_18
    FROM placed_cuts
    GROUP BY run_id, layer, head
),
placed_rows AS (
    SELECT
        repair_rows.*,
        repeated_rows.cluster_id AS repeated_cluster_id,
        32768 * CAST(prompt_id AS BIGINT) + pos AS place,
        head_cuts.* EXCLUDE (run_id, layer, head)
    FROM repair_rows
    INNER JOIN head_cuts USING (run_id, layer, head)
    LEFT JOIN repeated_rows USING (run_id, prompt_id, pos)
),
row_ratios AS (
    SELECT
        *,
        pos = 0 AS is_first,
        CASE
            WHEN direct_effect < effect_18 OR (direct_effect = effect_18 AND place > place_18) THEN 18
            WHEN direct_effect < effect_17 OR (direct_effect = effect_17 AND place > place_17) THEN 17
            WHEN direct_effect < effect_16 OR (direct_effect = effect_16 AND place > place_16) THEN 16
            WHEN direct_effect < effect_15 OR (direct_effect = effect_15 AND place > place_15) THEN 15
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
        CAST(repair_post_norm AS DOUBLE) / nullif(direct_effect, 0) AS post_norm_ratio,
        CAST(self_repair AS DOUBLE) / nullif(direct_effect, 0) AS total_ratio
    FROM placed_rows
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    prompt_id,
    repeated_cluster_id,
    is_first,
    CAST(n_cuts_above AS TINYINT) AS n_cuts_above,
    count(*) AS n_rows,
    count(*) FILTER (direct_effect = 0) AS undefined_ratios,
    count(*) FILTER (self_repair > 0) AS repaired_rows,
    -- in whole steps of 1e-4, so that float noise does not part what is equal
    count(*) FILTER (round(CAST(self_repair AS DOUBLE) * 10000) > round(CAST(direct_effect AS DOUBLE) * 10000))
        AS overrepaired_rows,
    -- |d - r| > |d| in a form that float noise cannot turn where the two are equal, r = 2 d
    count(*) FILTER (repair_layernorm * (repair_layernorm - 2 * logit_change) > 0) AS larger_frozen_rows,
    round(sum(direct_effect), 4) AS sum_direct_effect,
    round(sum(ablated_direct_effect), 4) AS sum_ablated_direct_effect,
    round(sum(logit_change), 4) AS sum_logit_change,
    round(sum(repair_layernorm), 4) AS sum_repair_layernorm,
    round(sum(repair_attention), 4) AS sum_repair_attention,
    round(sum(repair_mlp), 4) AS sum_repair_mlp,
    round(sum(repair_post_norm), 4) AS sum_repair_post_norm,
    round(sum(self_repair), 4) AS sum_self_repair,
    round(sum(ln_scale_ratio), 4) AS sum_ln_scale_ratio,
    sum(layernorm_ratio) AS sum_layernorm_ratio,
    sum(attention_ratio) AS sum_attention_ratio,
    sum(mlp_ratio) AS sum_mlp_ratio,
    sum(post_norm_ratio) AS sum_post_norm_ratio,
    sum(total_ratio) AS sum_total_ratio,
    sum(clipped(layernorm_ratio)) AS sum_clipped_layernorm,
    sum(clipped(attention_ratio)) AS sum_clipped_attention,
    sum(clipped(mlp_ratio)) AS sum_clipped_mlp,
    sum(clipped(post_norm_ratio)) AS sum_clipped_post_norm,
    sum(clipped(total_ratio)) AS sum_clipped_total,
    CAST(
        max(abs(self_repair - repair_layernorm - repair_attention - repair_mlp - coalesce(repair_post_norm, 0))) AS DOUBLE
    ) AS stored_identity_error,
    max(
        identity_excess(
            direct_effect,
            ablated_direct_effect,
            logit_change,
            repair_layernorm,
            repair_attention,
            repair_mlp,
            repair_post_norm
        )
    ) AS stored_identity_excess
FROM row_ratios
GROUP BY run_id, ablation, layer, head, prompt_id, repeated_cluster_id, is_first, n_cuts_above
