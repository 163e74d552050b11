-- Building block: how noisy self-repair is, with all intervals.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 3 (how noisy self-repair is)
-- Kept: mart
--
-- Runs of every status are here; head_noise says how the numbers and intervals come about.
--
-- Columns:
--   n_clusters BIGINT: Documents or prompts of the run that intervals are clustered by: where prompts repeat each other, of
--     rows or of prompts, the fewer [clusters]
--   self_repair_sd_within DOUBLE: Standard deviation of self_repair around its prompt's mean, pooled over prompts;
--     NULL: one row per prompt [logits]
--   logit_change_sd_within DOUBLE: Standard deviation of logit_change around its prompt's mean, pooled over prompts;
--     NULL: one row per prompt [logits]
--   slope DOUBLE: Change of logit_change per logit of direct_effect, fitted over the rows; NULL: all rows have the same
--     direct_effect [logits per logit]
--   intercept DOUBLE: The fit's logit_change at direct_effect = 0 [logits]
--   correlation DOUBLE: Pearson correlation of logit_change with direct_effect; NULL: one of them is constant [ratio]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no self_repair / direct_effect and are not in its
--     quantiles [rows]
--   self_repair_quantile_5 DOUBLE: 5 % of the rows have at most this self_repair [logits]
--   self_repair_quantile_25 DOUBLE: 25 % of the rows have at most this self_repair [logits]
--   self_repair_quantile_50 DOUBLE: Half of the rows have at most this self_repair: the median [logits]
--   self_repair_quantile_75 DOUBLE: 75 % of the rows have at most this self_repair [logits]
--   self_repair_quantile_95 DOUBLE: 95 % of the rows have at most this self_repair [logits]
--   self_repair_sd_between DOUBLE: Standard deviation of the prompts' mean self_repair, each prompt counting once, divided
--     by prompts - 1; NULL: one prompt [logits]
--   logit_change_sd_between DOUBLE: Standard deviation of the prompts' mean logit_change, each prompt counting once,
--     divided by prompts - 1; NULL: one prompt [logits]
--   overrepaired_share DOUBLE: Rows with self_repair > direct_effect, as a share of n_rows; over-repair only where the
--     direct effect is above 0 [ratio]

WITH measures AS (
    SELECT
        repair.run_id,
        repair.ablation,
        repair.layer,
        repair.head,
        repair.n_rows * repair.variance AS repair_squares,
        change.n_rows * change.variance AS change_squares,
        change.mean AS mean_change,
        change.variance AS change_variance,
        effect.mean AS mean_effect,
        effect.variance AS effect_variance,
        repair.quantile_5 AS self_repair_quantile_5,
        repair.quantile_25 AS self_repair_quantile_25,
        repair.quantile_50 AS self_repair_quantile_50,
        repair.quantile_75 AS self_repair_quantile_75,
        repair.quantile_95 AS self_repair_quantile_95
    FROM tail_numbers AS repair
    INNER JOIN tail_numbers AS change USING (run_id, ablation, layer, head)
    INNER JOIN tail_numbers AS effect USING (run_id, ablation, layer, head)
    WHERE repair.measure = 'self_repair' AND change.measure = 'logit_change' AND effect.measure = 'direct_effect'
),
numbers AS (
    SELECT
        *,
        -- steps of 1e-4 cannot make a sum of squares between 0 and 5e-9: what is less is left by the subtraction
        round(greatest(0, repair_squares - self_repair_squares), 10) AS repair_squares_within,
        round(greatest(0, change_squares - logit_change_squares), 10) AS change_squares_within,
        nullif(n_rows - n_prompts, 0) AS freedom_within,
        covariance / nullif(effect_variance, 0) AS slope,
        covariance / nullif(sqrt(effect_variance * change_variance), 0) AS rounded_correlation
    FROM repair_means
    INNER JOIN prompt_spread USING (run_id, ablation, layer, head)
    INNER JOIN measures USING (run_id, ablation, layer, head)
    INNER JOIN row_comparisons USING (run_id, ablation, layer, head)
    LEFT JOIN noise_errors USING (run_id, ablation, layer, head)
    WHERE level = 'head' AND population = 'all'
),
noise AS (
    SELECT
        *,
        sqrt(repair_squares_within / freedom_within) AS self_repair_sd_within,
        sqrt(change_squares_within / freedom_within) AS logit_change_sd_within,
        mean_change - slope * mean_effect AS intercept,
        CASE
            WHEN rounded_correlation > 1 THEN 1
            WHEN rounded_correlation < -1 THEN -1
            ELSE rounded_correlation
        END AS correlation,
        atanh(CASE WHEN abs(correlation) < 1 THEN correlation END) AS fisher_z
    FROM numbers
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    n_prompts,
    least(n_clusters, n_resampled) AS n_clusters,
    n_rows,
    self_repair_sd_within,
    self_repair_sd_within * exp(-self_repair_sd_within_half) AS self_repair_sd_within_low,
    self_repair_sd_within * exp(self_repair_sd_within_half) AS self_repair_sd_within_high,
    self_repair_sd_between,
    self_repair_sd_between * exp(-self_repair_sd_between_half) AS self_repair_sd_between_low,
    self_repair_sd_between * exp(self_repair_sd_between_half) AS self_repair_sd_between_high,
    logit_change_sd_within,
    logit_change_sd_within * exp(-logit_change_sd_within_half) AS logit_change_sd_within_low,
    logit_change_sd_within * exp(logit_change_sd_within_half) AS logit_change_sd_within_high,
    logit_change_sd_between,
    logit_change_sd_between * exp(-logit_change_sd_between_half) AS logit_change_sd_between_low,
    logit_change_sd_between * exp(logit_change_sd_between_half) AS logit_change_sd_between_high,
    slope,
    slope - slope_half AS slope_low,
    slope + slope_half AS slope_high,
    intercept,
    intercept - intercept_half AS intercept_low,
    intercept + intercept_half AS intercept_high,
    correlation,
    tanh(fisher_z - correlation_half) AS correlation_low,
    tanh(fisher_z + correlation_half) AS correlation_high,
    self_repair_quantile_5,
    self_repair_quantile_25,
    self_repair_quantile_50,
    self_repair_quantile_75,
    self_repair_quantile_95,
    repair_ratio_quantile_5,
    repair_ratio_quantile_25,
    repair_ratio_quantile_50,
    repair_ratio_quantile_75,
    repair_ratio_quantile_95,
    undefined_ratios,
    overrepaired_share,
    clipped(overrepaired_share_low) AS overrepaired_share_low,
    clipped(overrepaired_share_high) AS overrepaired_share_high
FROM noise
ORDER BY run_id, ablation, layer, head
