-- Building block: how far a head's self-repair spreads, and the line through its rows, with intervals.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 3 (how noisy self-repair is)
-- Kept: mart
--
-- `head_noise` says how each number is defined. Its interval is a jackknife's: the number is computed without each cluster
-- (prompt_clusters) in turn, and G - 1 times the variance of these G numbers is the square of the standard error. Standard
-- deviations have theirs in logarithms and correlations in Fisher's z, where they are near to symmetric.
--
-- Columns:
--   n_clusters BIGINT: Documents or prompts that are left out in turn [clusters]
--   self_repair_sd_within DOUBLE: Standard deviation of self_repair around its prompt's mean, pooled over prompts;
--     NULL: one row per prompt [logits]
--   self_repair_sd_between DOUBLE: Standard deviation of the prompts' mean self_repair, each prompt counting once, divided
--     by prompts - 1; NULL: one prompt [logits]
--   logit_change_sd_within DOUBLE: Standard deviation of logit_change around its prompt's mean, pooled over prompts;
--     NULL: one row per prompt [logits]
--   logit_change_sd_between DOUBLE: Standard deviation of the prompts' mean logit_change, each prompt counting once,
--     divided by prompts - 1; NULL: one prompt [logits]
--   slope DOUBLE: Change of logit_change per logit of direct_effect, fitted over the rows; NULL: all rows have the same
--     direct_effect [logits per logit]
--   intercept DOUBLE: The fit's logit_change at direct_effect = 0 [logits]
--   correlation DOUBLE: Pearson correlation of logit_change with direct_effect; NULL: one of them is constant [ratio]

WITH prompt_numbers AS (
    SELECT
        *,
        (repair_repair * n_rows - repair * repair) / n_rows AS repair_within,
        (change_change * n_rows - change * change) / n_rows AS change_within,
        repair / n_rows - sum(repair) OVER cell / sum(n_rows) OVER cell AS repair_distance,
        change / n_rows - sum(change) OVER cell / sum(n_rows) OVER cell AS change_distance
    FROM prompt_squares
    WINDOW cell AS (PARTITION BY run_id, ablation, layer, head)
),
clusters AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        cluster_id,
        CAST(count(*) AS DOUBLE) AS of_prompts,
        CAST(sum(n_rows) AS DOUBLE) AS of_rows,
        sum(effect) AS of_effect,
        sum(change) AS of_change,
        sum(effect_effect) AS of_effect_effect,
        sum(effect_change) AS of_effect_change,
        sum(change_change) AS of_change_change,
        sum(repair_within) AS of_repair_within,
        sum(change_within) AS of_change_within,
        sum(repair_distance) AS of_repair_distance,
        sum(change_distance) AS of_change_distance,
        sum(repair_distance ** 2) AS of_repair_squares,
        sum(change_distance ** 2) AS of_change_squares
    FROM prompt_numbers
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
    GROUP BY run_id, ablation, layer, head, cluster_id
),
samples AS (
    SELECT run_id, ablation, layer, head, true AS is_whole, sum(COLUMNS('^of_')) AS '\0'
    FROM clusters
    GROUP BY run_id, ablation, layer, head
    UNION ALL
    SELECT run_id, ablation, layer, head, false AS is_whole, sum(COLUMNS('^of_')) OVER cell - COLUMNS('^of_') AS '\0'
    FROM clusters
    WINDOW cell AS (PARTITION BY run_id, ablation, layer, head)
),
squares AS (
    SELECT
        *,
        of_effect_effect - of_effect * of_effect / nullif(of_rows, 0) AS effect_left,
        of_change_change - of_change * of_change / nullif(of_rows, 0) AS change_left,
        -- what is left of equal numbers by the subtraction is no variance
        CASE WHEN effect_left > 1e-12 * of_effect_effect THEN effect_left END AS effect_squares,
        CASE WHEN change_left > 1e-12 * of_change_change THEN change_left END AS change_squares,
        of_effect_change - of_effect * of_change / nullif(of_rows, 0) AS products,
        nullif(of_rows - of_prompts, 0) AS freedom_within,
        CASE WHEN of_prompts > 1 THEN of_prompts - 1 END AS freedom_between
    FROM samples
),
numbers AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        is_whole,
        sqrt(of_repair_within / freedom_within) / 10000 AS repair_within,
        sqrt(of_change_within / freedom_within) / 10000 AS change_within,
        sqrt(greatest(0, of_repair_squares - of_repair_distance ** 2 / of_prompts) / freedom_between) / 10000 AS repair_between,
        sqrt(greatest(0, of_change_squares - of_change_distance ** 2 / of_prompts) / freedom_between) / 10000 AS change_between,
        products / effect_squares AS slope,
        (of_change - products / effect_squares * of_effect) / of_rows / 10000 AS intercept,
        products / sqrt(effect_squares * change_squares) AS rounded_correlation,
        CASE
            WHEN rounded_correlation > 1 THEN 1
            WHEN rounded_correlation < -1 THEN -1
            ELSE rounded_correlation
        END AS correlation,
        ln(nullif(repair_within, 0)) AS log_repair_within,
        ln(nullif(change_within, 0)) AS log_change_within,
        ln(nullif(repair_between, 0)) AS log_repair_between,
        ln(nullif(change_between, 0)) AS log_change_between,
        atanh(CASE WHEN abs(correlation) < 1 THEN correlation END) AS fisher_z
    FROM squares
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    count(*) - 1 AS n_clusters,
    max(repair_within) FILTER (is_whole) AS self_repair_sd_within,
    exp(max(log_repair_within) FILTER (is_whole) - jackknife(log_repair_within, is_whole)) AS self_repair_sd_within_low,
    exp(max(log_repair_within) FILTER (is_whole) + jackknife(log_repair_within, is_whole)) AS self_repair_sd_within_high,
    max(repair_between) FILTER (is_whole) AS self_repair_sd_between,
    exp(max(log_repair_between) FILTER (is_whole) - jackknife(log_repair_between, is_whole)) AS self_repair_sd_between_low,
    exp(max(log_repair_between) FILTER (is_whole) + jackknife(log_repair_between, is_whole)) AS self_repair_sd_between_high,
    max(change_within) FILTER (is_whole) AS logit_change_sd_within,
    exp(max(log_change_within) FILTER (is_whole) - jackknife(log_change_within, is_whole)) AS logit_change_sd_within_low,
    exp(max(log_change_within) FILTER (is_whole) + jackknife(log_change_within, is_whole)) AS logit_change_sd_within_high,
    max(change_between) FILTER (is_whole) AS logit_change_sd_between,
    exp(max(log_change_between) FILTER (is_whole) - jackknife(log_change_between, is_whole)) AS logit_change_sd_between_low,
    exp(max(log_change_between) FILTER (is_whole) + jackknife(log_change_between, is_whole)) AS logit_change_sd_between_high,
    max(slope) FILTER (is_whole) AS slope,
    max(slope) FILTER (is_whole) - jackknife(slope, is_whole) AS slope_low,
    max(slope) FILTER (is_whole) + jackknife(slope, is_whole) AS slope_high,
    max(intercept) FILTER (is_whole) AS intercept,
    max(intercept) FILTER (is_whole) - jackknife(intercept, is_whole) AS intercept_low,
    max(intercept) FILTER (is_whole) + jackknife(intercept, is_whole) AS intercept_high,
    max(correlation) FILTER (is_whole) AS correlation,
    tanh(max(fisher_z) FILTER (is_whole) - jackknife(fisher_z, is_whole)) AS correlation_low,
    tanh(max(fisher_z) FILTER (is_whole) + jackknife(fisher_z, is_whole)) AS correlation_high
FROM numbers
GROUP BY run_id, ablation, layer, head
ORDER BY run_id, ablation, layer, head
