-- How noisy self-repair is: its spread within and between prompts, and how well direct effect predicts the change in
-- logit.
--
-- Grain: run_id, ablation, layer, head
-- Headline: label, self_repair_sd_within, self_repair_sd_between, correlation, correlation_low, correlation_high, slope,
--   slope_low, slope_high, n_clusters
-- Paper: section 3 (how noisy self-repair is)
--
-- Over all rows. Within prompts: the standard deviation of rows around their own prompt's mean, pooled over prompts:
-- the root of the sum of squares over rows - prompts. Between prompts: the standard deviation of the prompts' means,
-- over prompts - 1; it includes sampling noise of about within / sqrt(rows per prompt). The line is the least-squares
-- fit of logit_change on direct_effect: under zero ablation, slope -1 and intercept 0 mean no self-repair, slope 0
-- self-repair of the whole effect. A quantile is an observed value: the lowest one that at least its share of the rows
-- does not exceed. Failed runs are left out.
--
-- Intervals (_low, _high) are at 95 % and clustered by document: each number is computed without one document after the other
-- (noise_errors), from 128 documents and 25,000 positions on without each of a sample (sampled_clusters), and a share's is that of
-- head_repair. A standard deviation of 0 and a correlation of 1 or -1 have none, and
-- neither have quantiles. Of fewer than 12 clusters they are a rough guide.

SELECT
    run_id,
    models.name AS model,
    ablation,
    layer,
    head,
    head_label(layer, head) AS label,
    noise_numbers.* EXCLUDE (run_id, ablation, layer, head)
FROM noise_numbers
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, layer, head
