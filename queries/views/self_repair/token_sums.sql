-- Building block: sums over the rows of each head by kind of target token (token_classes).
--
-- Grain: run_id, ablation, population, layer, head, dimension, bucket_order
-- Paper: none
-- Kept: mart
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows for every ablation)
--   dimension VARCHAR: What the rows are grouped by: 'logprob_decile', 'position' or 'token_class' (see token_classes)
--   bucket_order TINYINT: Number of the group in its dimension, from 1
--   n_rows BIGINT: Rows that the sums cover [rows]
--   sum_direct_effect DOUBLE: Sum of direct_effect [logits]
--   sum_logit_change DOUBLE: Sum of logit_change [logits]
--   sum_self_repair DOUBLE: Sum of self_repair [logits]
--   sum_repair_layernorm DOUBLE: Sum of repair_layernorm [logits]
--   sum_repair_attention DOUBLE: Sum of repair_attention [logits]
--   sum_repair_mlp DOUBLE: Sum of repair_mlp [logits]
--   sum_repair_post_norm DOUBLE: Sum of repair_post_norm; NULL: the model has no post-norms [logits]

WITH rows_used AS (
    SELECT 'all' AS population, *
    FROM repair_rows
    UNION ALL BY NAME
    SELECT 'top2' AS population, * EXCLUDE (effect_rank)
    FROM ranked_top_rows
),
joint_sums AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        logprob_decile,
        position_order,
        class_order,
        count(*) AS n_rows,
        sum(direct_effect) AS direct_effect,
        sum(logit_change) AS logit_change,
        sum(self_repair) AS self_repair,
        sum(repair_layernorm) AS repair_layernorm,
        sum(repair_attention) AS repair_attention,
        sum(repair_mlp) AS repair_mlp,
        sum(repair_post_norm) AS repair_post_norm
    FROM rows_used
    INNER JOIN token_classes USING (run_id, prompt_id, pos)
    GROUP BY ALL
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    CASE grouping(logprob_decile, position_order, class_order)
        WHEN 3 THEN 'logprob_decile'
        WHEN 5 THEN 'position'
        ELSE 'token_class'
    END AS dimension,
    coalesce(logprob_decile, position_order, class_order) AS bucket_order,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    round(sum(direct_effect), 4) AS sum_direct_effect,
    round(sum(logit_change), 4) AS sum_logit_change,
    round(sum(self_repair), 4) AS sum_self_repair,
    round(sum(repair_layernorm), 4) AS sum_repair_layernorm,
    round(sum(repair_attention), 4) AS sum_repair_attention,
    round(sum(repair_mlp), 4) AS sum_repair_mlp,
    round(sum(repair_post_norm), 4) AS sum_repair_post_norm
FROM joint_sums
GROUP BY GROUPING SETS (
    (run_id, ablation, population, layer, head, logprob_decile),
    (run_id, ablation, population, layer, head, position_order),
    (run_id, ablation, population, layer, head, class_order)
)
