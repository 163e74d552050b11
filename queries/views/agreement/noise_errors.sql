-- Building block: how far the numbers of a head's noise may be off: half of their 95 % intervals.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 3 (how noisy self-repair is)
-- Kept: stage
--
-- `head_noise` has the numbers. A jackknife: each is computed without one of the sampled clusters (sampled_clusters) in turn, and
-- G - 1 times the variance of these G numbers is the square of its standard error; where the clusters are a sample, less by
-- the share that they are of all. Standard deviations have it in logarithms and correlations in Fisher's z, where it is near to
-- symmetric. Sums are in whole steps of 1e-4 logits, so that differences of large ones lose nothing. NULL: one cluster, or no
-- number without one of them.
--
-- Columns:
--   n_resampled BIGINT: Clusters of the run (prompt_clusters), which the sampled ones stand for [clusters]
--   self_repair_sd_within_half DOUBLE: Half the interval of ln(self_repair_sd_within)
--   self_repair_sd_between_half DOUBLE: Half the interval of ln(self_repair_sd_between)
--   logit_change_sd_within_half DOUBLE: Half the interval of ln(logit_change_sd_within)
--   logit_change_sd_between_half DOUBLE: Half the interval of ln(logit_change_sd_between)
--   slope_half DOUBLE: Half the interval of slope [logits per logit]
--   intercept_half DOUBLE: Half the interval of intercept [logits]
--   correlation_half DOUBLE: Half the interval of atanh(correlation)

WITH steps AS (
    SELECT
        * EXCLUDE (direct_effect, logit_change, self_repair),
        CAST(round(direct_effect * 10000) AS DOUBLE) AS effect,
        CAST(round(logit_change * 10000) AS DOUBLE) AS change,
        CAST(round(self_repair * 10000) AS DOUBLE) AS repair
    FROM sampled_rows
),
prompt_squares AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        prompt_id,
        cluster_id,
        count(*) AS n_rows,
        sum(effect) AS effect,
        sum(change) AS change,
        sum(repair) AS repair,
        sum(effect * effect) AS effect_effect,
        sum(effect * change) AS effect_change,
        sum(change * change) AS change_change,
        sum(repair * repair) AS repair_repair
    FROM steps
    GROUP BY run_id, ablation, layer, head, prompt_id, cluster_id
),
prompt_numbers AS (
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
        any_value(n_clusters) AS n_resampled,
        sqrt(any_value(n_sampled) / any_value(n_clusters)) AS all_share,
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
    INNER JOIN sampled_clusters USING (run_id, cluster_id)
    GROUP BY run_id, ablation, layer, head, cluster_id
),
samples AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        any_value(n_resampled) AS n_resampled,
        any_value(all_share) AS all_share,
        true AS is_whole,
        sum(COLUMNS('^of_')) AS '\0'
    FROM clusters
    GROUP BY run_id, ablation, layer, head
    UNION ALL
    SELECT
        run_id,
        ablation,
        layer,
        head,
        n_resampled,
        all_share,
        false AS is_whole,
        sum(COLUMNS('^of_')) OVER cell - COLUMNS('^of_') AS '\0'
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
        n_resampled,
        all_share,
        sqrt(of_repair_within / freedom_within) / 10000 AS repair_within,
        sqrt(of_change_within / freedom_within) / 10000 AS change_within,
        sqrt(greatest(0, of_repair_squares - of_repair_distance ** 2 / of_prompts) / freedom_between) / 10000
            AS repair_between,
        sqrt(greatest(0, of_change_squares - of_change_distance ** 2 / of_prompts) / freedom_between) / 10000
            AS change_between,
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
    any_value(n_resampled) AS n_resampled,
    any_value(all_share) * jackknife(log_repair_within, is_whole) AS self_repair_sd_within_half,
    any_value(all_share) * jackknife(log_repair_between, is_whole) AS self_repair_sd_between_half,
    any_value(all_share) * jackknife(log_change_within, is_whole) AS logit_change_sd_within_half,
    any_value(all_share) * jackknife(log_change_between, is_whole) AS logit_change_sd_between_half,
    any_value(all_share) * jackknife(slope, is_whole) AS slope_half,
    any_value(all_share) * jackknife(intercept, is_whole) AS intercept_half,
    any_value(all_share) * jackknife(fisher_z, is_whole) AS correlation_half
FROM numbers
GROUP BY run_id, ablation, layer, head
ORDER BY run_id, ablation, layer, head
