-- How noisy self-repair is: its spread within and between prompts, and how well direct effect predicts the change in
-- logit.
--
-- Grain: run_id, ablation, layer, head
-- Headline: label, self_repair_sd_within, self_repair_sd_between, correlation, correlation_low, correlation_high, slope,
--   slope_low, slope_high, n_rows
-- Paper: section 3 (how noisy self-repair is)
--
-- Over all rows. Within prompts: the standard deviation of rows around their own prompt's mean, pooled over prompts:
-- the root of the sum of squares over rows - prompts. Between prompts: the standard deviation of the prompts' means,
-- over prompts - 1; it includes sampling noise of about within / sqrt(rows per prompt). The line is the least-squares
-- fit of logit_change on direct_effect: under zero ablation, slope -1 and intercept 0 mean no self-repair, slope 0
-- self-repair of the whole effect. A quantile is an observed value: the lowest one that at least its share of the rows
-- does not exceed. Failed runs are left out.
--
-- Intervals (_low, _high) are at 95 % and clustered by document: each number is computed without every document in turn
-- (noise_estimates), and a share's is that of head_repair. A standard deviation of 0 and a correlation of 1 or -1 have none, and
-- neither have quantiles.
--
-- Columns:
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no self_repair / direct_effect and are not in its
--     quantiles [rows]
--   self_repair_quantile_5 DOUBLE: 5 % of the rows have at most this self_repair [logits]
--   self_repair_quantile_25 DOUBLE: 25 % of the rows have at most this self_repair [logits]
--   self_repair_quantile_50 DOUBLE: Half of the rows have at most this self_repair: the median [logits]
--   self_repair_quantile_75 DOUBLE: 75 % of the rows have at most this self_repair [logits]
--   self_repair_quantile_95 DOUBLE: 95 % of the rows have at most this self_repair [logits]
--   overrepaired_share DOUBLE: Rows with self_repair > direct_effect, as a share of n_rows; over-repair only where the
--     direct effect is above 0 [ratio]

SELECT
    run_id,
    model,
    ablation,
    layer,
    head,
    label,
    n_prompts,
    noise_estimates.n_clusters,
    head_repair.n_rows,
    self_repair_sd_within,
    self_repair_sd_within_low,
    self_repair_sd_within_high,
    self_repair_sd_between,
    self_repair_sd_between_low,
    self_repair_sd_between_high,
    logit_change_sd_within,
    logit_change_sd_within_low,
    logit_change_sd_within_high,
    logit_change_sd_between,
    logit_change_sd_between_low,
    logit_change_sd_between_high,
    slope,
    slope_low,
    slope_high,
    intercept,
    intercept_low,
    intercept_high,
    correlation,
    correlation_low,
    correlation_high,
    tail_numbers.quantile_5 AS self_repair_quantile_5,
    tail_numbers.quantile_25 AS self_repair_quantile_25,
    tail_numbers.quantile_50 AS self_repair_quantile_50,
    tail_numbers.quantile_75 AS self_repair_quantile_75,
    tail_numbers.quantile_95 AS self_repair_quantile_95,
    repair_ratio_quantile_5,
    repair_ratio_quantile_25,
    repair_ratio_quantile_50,
    repair_ratio_quantile_75,
    repair_ratio_quantile_95,
    undefined_ratios,
    overrepaired_share,
    clipped(overrepaired_share - t_975(head_repair.n_clusters - 1) * overrepaired_share_se) AS overrepaired_share_low,
    clipped(overrepaired_share + t_975(head_repair.n_clusters - 1) * overrepaired_share_se) AS overrepaired_share_high
FROM noise_estimates
INNER JOIN head_repair USING (run_id, ablation, layer, head)
INNER JOIN row_comparisons USING (run_id, ablation, layer, head)
INNER JOIN tail_numbers USING (run_id, ablation, layer, head)
WHERE population = 'all' AND tail_numbers.measure = 'self_repair'
ORDER BY run_id, ablation, layer, head
