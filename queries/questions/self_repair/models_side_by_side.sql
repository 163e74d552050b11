-- How do models compare? The paper's headline numbers of every run: fractions of direct effect, and late heads that are
-- repaired.
--
-- Grain: run_id
-- Paper: section 3 (Figure 1 and its text)
--
-- A head is late when its depth is at least 50 %. The paper averages fractions over heads, and so does this;
-- model_repair pools rows, which is the same where all heads have equally many.
--
-- Intervals are 95 % and count heads as drawn, and the text, too, as those of reproduction_claims: the variance of a mean is
-- that between heads plus that between documents, and the share of late heads reaches from Wilson's lower end for those whose
-- mean self-repair is told from 0 to the upper end for those where it may be above. Of fewer than 12 documents they are a
-- rough guide.
--
-- Parameters:
--   model, run_id, ablation, population
--
-- Columns:
--   n_heads BIGINT: Measured heads [heads]
--   mean_layernorm_fraction DOUBLE: Mean over heads of clipped_layernorm_fraction, the paper's 'about 30 %' [ratio]
--   mean_attention_fraction DOUBLE: Mean over heads of clipped_attention_fraction [ratio]
--   mean_mlp_fraction DOUBLE: Mean over heads of clipped_mlp_fraction [ratio]
--   mean_post_norm_fraction DOUBLE: Mean over heads of clipped_post_norm_fraction; NULL: the model has no post-norms [ratio]
--   mean_total_fraction DOUBLE: Mean over heads of clipped_total_fraction [ratio]
--   late_heads BIGINT: Measured heads in the later half of the layers [heads]
--   late_repaired_share DOUBLE: Those of them with mean_self_repair > 0, as a share of late_heads; NULL: there are
--     none [ratio]
--   mean_layernorm_fraction_low DOUBLE: Lower end of the 95 % interval of mean_layernorm_fraction; NULL: one head or cluster [ratio]
--   mean_layernorm_fraction_high DOUBLE: Upper end of the 95 % interval of mean_layernorm_fraction; NULL: one head or cluster [ratio]
--   mean_attention_fraction_low DOUBLE: Lower end of the 95 % interval of mean_attention_fraction; NULL: one head or cluster [ratio]
--   mean_attention_fraction_high DOUBLE: Upper end of the 95 % interval of mean_attention_fraction; NULL: one head or cluster [ratio]
--   mean_mlp_fraction_low DOUBLE: Lower end of the 95 % interval of mean_mlp_fraction; NULL: one head or cluster [ratio]
--   mean_mlp_fraction_high DOUBLE: Upper end of the 95 % interval of mean_mlp_fraction; NULL: one head or cluster [ratio]
--   mean_post_norm_fraction_low DOUBLE: Lower end of the 95 % interval of mean_post_norm_fraction; NULL: one head or cluster [ratio]
--   mean_post_norm_fraction_high DOUBLE: Upper end of the 95 % interval of mean_post_norm_fraction; NULL: one head or cluster [ratio]
--   mean_total_fraction_low DOUBLE: Lower end of the 95 % interval of mean_total_fraction; NULL: one head or cluster [ratio]
--   mean_total_fraction_high DOUBLE: Upper end of the 95 % interval of mean_total_fraction; NULL: one head or cluster [ratio]
--   late_repaired_share_low DOUBLE: Lower end of the 95 % interval of late_repaired_share; NULL: there are none [ratio]
--   late_repaired_share_high DOUBLE: Upper end of the 95 % interval of late_repaired_share; NULL: there are none [ratio]

WITH head_means AS (
    SELECT
        run_id,
        model,
        logit_of,
        count(*) AS n_heads,
        max(n_clusters) AS n_clusters,
        avg(clipped_layernorm_fraction) AS mean_layernorm_fraction,
        var_samp(clipped_layernorm_fraction) / count(clipped_layernorm_fraction) AS layernorm_variance,
        avg(clipped_attention_fraction) AS mean_attention_fraction,
        var_samp(clipped_attention_fraction) / count(clipped_attention_fraction) AS attention_variance,
        avg(clipped_mlp_fraction) AS mean_mlp_fraction,
        var_samp(clipped_mlp_fraction) / count(clipped_mlp_fraction) AS mlp_variance,
        avg(clipped_post_norm_fraction) AS mean_post_norm_fraction,
        var_samp(clipped_post_norm_fraction) / count(clipped_post_norm_fraction) AS post_norm_variance,
        avg(clipped_total_fraction) AS mean_total_fraction,
        var_samp(clipped_total_fraction) / count(clipped_total_fraction) AS total_variance,
        count(*) FILTER (depth >= 50) AS late_heads,
        count(*) FILTER (depth >= 50 AND mean_self_repair > 0) AS n_repaired,
        count(*) FILTER (depth >= 50 AND mean_self_repair_low > 0) AS n_least,
        late_heads - count(*) FILTER (depth >= 50 AND mean_self_repair_high <= 0) AS n_most
    FROM head_repair
    WHERE
        ($model IS NULL OR model = $model)
        AND ($run_id IS NULL OR run_id = $run_id)
        AND ablation = $ablation
        AND population = coalesce($population, default_population(run_id))
    GROUP BY run_id, model, logit_of
),
errors AS (
    SELECT
        run_id,
        t_975(least(head_means.n_heads, head_means.n_clusters) - 1) AS t,
        t * sqrt(layernorm_variance + clipped_layernorm_fraction_se ** 2) AS layernorm_half,
        t * sqrt(attention_variance + clipped_attention_fraction_se ** 2) AS attention_half,
        t * sqrt(mlp_variance + clipped_mlp_fraction_se ** 2) AS mlp_half,
        t * sqrt(post_norm_variance + clipped_post_norm_fraction_se ** 2) AS post_norm_half,
        t * sqrt(total_variance + clipped_total_fraction_se ** 2) AS total_half
    FROM head_means
    INNER JOIN model_repair USING (run_id)
    WHERE ablation = $ablation AND population = coalesce($population, default_population(run_id))
)
SELECT
    run_id,
    model,
    logit_of,
    n_heads,
    n_clusters,
    mean_layernorm_fraction,
    mean_layernorm_fraction - layernorm_half AS mean_layernorm_fraction_low,
    mean_layernorm_fraction + layernorm_half AS mean_layernorm_fraction_high,
    mean_attention_fraction,
    mean_attention_fraction - attention_half AS mean_attention_fraction_low,
    mean_attention_fraction + attention_half AS mean_attention_fraction_high,
    mean_mlp_fraction,
    mean_mlp_fraction - mlp_half AS mean_mlp_fraction_low,
    mean_mlp_fraction + mlp_half AS mean_mlp_fraction_high,
    mean_post_norm_fraction,
    mean_post_norm_fraction - post_norm_half AS mean_post_norm_fraction_low,
    mean_post_norm_fraction + post_norm_half AS mean_post_norm_fraction_high,
    mean_total_fraction,
    mean_total_fraction - total_half AS mean_total_fraction_low,
    mean_total_fraction + total_half AS mean_total_fraction_high,
    late_heads,
    n_repaired / nullif(late_heads, 0) AS late_repaired_share,
    CASE WHEN late_heads > 0 THEN wilson(n_least, late_heads, -1) END AS late_repaired_share_low,
    CASE WHEN late_heads > 0 THEN wilson(n_most, late_heads, 1) END AS late_repaired_share_high
FROM head_means
INNER JOIN errors USING (run_id)
ORDER BY run_id
