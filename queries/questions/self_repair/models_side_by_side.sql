-- How do models compare? The paper's headline numbers of every run: fractions of direct effect, and late heads that are
-- repaired.
--
-- Grain: run_id
-- Paper: section 3 (Figure 1 and its text)
--
-- A head is late when its depth is at least 50 %. The paper averages fractions over heads, and so does this;
-- model_repair pools rows, which is the same where all heads have equally many.
--
-- Parameters:
--   model, run_id, ablation, population
--
-- Columns:
--   n_heads BIGINT: Measured heads [heads]
--   mean_layernorm_fraction DOUBLE: Mean over heads of clipped_layernorm_fraction, the paper's 'about 30 %' [ratio]
--   mean_attention_fraction DOUBLE: Mean over heads of clipped_attention_fraction [ratio]
--   mean_mlp_fraction DOUBLE: Mean over heads of clipped_mlp_fraction [ratio]
--   mean_total_fraction DOUBLE: Mean over heads of clipped_total_fraction [ratio]
--   late_heads BIGINT: Measured heads in the later half of the layers [heads]
--   late_repaired_share DOUBLE: Those of them with mean_self_repair > 0, as a share of late_heads; NULL: there are
--     none [ratio]

SELECT
    run_id,
    model,
    logit_of,
    count(*) AS n_heads,
    avg(clipped_layernorm_fraction) AS mean_layernorm_fraction,
    avg(clipped_attention_fraction) AS mean_attention_fraction,
    avg(clipped_mlp_fraction) AS mean_mlp_fraction,
    avg(clipped_total_fraction) AS mean_total_fraction,
    count(*) FILTER (depth >= 50) AS late_heads,
    count(*) FILTER (depth >= 50 AND mean_self_repair > 0) / nullif(late_heads, 0) AS late_repaired_share
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
GROUP BY run_id, model, logit_of
ORDER BY run_id
