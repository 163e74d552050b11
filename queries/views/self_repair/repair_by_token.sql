-- Self-repair by kind of target token: its log-probability decile, its position in the prompt, its class.
--
-- Grain: run_id, ablation, population, level, layer, head, dimension, bucket_order
-- Headline: dimension, bucket, mean_direct_effect, mean_self_repair, total_fraction_of_effect, n_rows, level, label
-- Paper: none
--
-- The dimensions are three ways of grouping the same rows; token_classes defines them. Means are over rows; a model
-- pools the rows of its heads, for top2 each head's own top 2 %. A bucket without rows is left out, and so are failed
-- runs.
--
-- Columns:
--   level VARCHAR: What a row describes: 'head', or 'model' (layer and head are NULL)
--   bucket VARCHAR: The group: a target log-probability decile, 1 the lowest; positions from-to; a token class
--   n_rows BIGINT: Rows that the means cover [rows]
--   mean_direct_effect DOUBLE: Mean of direct_effect; > 0: pushes the correct token up [logits]
--   mean_logit_change DOUBLE: Mean of logit_change; < 0: the ablation hurts [logits]
--   mean_self_repair DOUBLE: Mean of self_repair; > 0: the rest of the model compensated [logits]
--   mean_repair_layernorm DOUBLE: Mean of repair_layernorm, the LayerNorm repair: through the final norm's scale
--     [logits]
--   mean_repair_attention DOUBLE: Mean of repair_attention, the attention repair: through later attention layers
--     [logits]
--   mean_repair_mlp DOUBLE: Mean of repair_mlp, the MLP repair: through the same layer's and later MLPs [logits]
--   mean_repair_post_norm DOUBLE: Mean of repair_post_norm, the post-norm repair: through the norm of what the head's own
--     layer adds; NULL: the model has no post-norms [logits]
--   total_fraction_of_effect DOUBLE: Sum of self_repair / sum of direct_effect; NULL where that is 0 [ratio]

WITH level_sums AS (
    SELECT
        run_id,
        ablation,
        population,
        CASE grouping(head) WHEN 0 THEN 'head' ELSE 'model' END AS level,
        layer,
        head,
        dimension,
        bucket_order,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        round(sum(sum_direct_effect), 4) AS direct_effect,
        round(sum(sum_logit_change), 4) AS logit_change,
        round(sum(sum_self_repair), 4) AS self_repair,
        round(sum(sum_repair_layernorm), 4) AS repair_layernorm,
        round(sum(sum_repair_attention), 4) AS repair_attention,
        round(sum(sum_repair_mlp), 4) AS repair_mlp,
        round(sum(sum_repair_post_norm), 4) AS repair_post_norm
    FROM token_sums
    GROUP BY GROUPING SETS (
        (run_id, ablation, population, dimension, bucket_order, layer, head),
        (run_id, ablation, population, dimension, bucket_order)
    )
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    level,
    layer,
    head,
    head_label(layer, head) AS label,
    dimension,
    CASE dimension
        WHEN 'logprob_decile' THEN CAST(bucket_order AS VARCHAR)
        WHEN 'position' THEN ['0', '1-3', '4-15', '16-63', '64-255', '256-1023', '1024+'][bucket_order]
        ELSE ['word start', 'inner piece', 'digit', 'punctuation', 'newline', 'other'][bucket_order]
    END AS bucket,
    bucket_order,
    n_rows,
    direct_effect / n_rows AS mean_direct_effect,
    logit_change / n_rows AS mean_logit_change,
    self_repair / n_rows AS mean_self_repair,
    repair_layernorm / n_rows AS mean_repair_layernorm,
    repair_attention / n_rows AS mean_repair_attention,
    repair_mlp / n_rows AS mean_repair_mlp,
    repair_post_norm / n_rows AS mean_repair_post_norm,
    self_repair / nullif(direct_effect, 0) AS total_fraction_of_effect
FROM level_sums
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
