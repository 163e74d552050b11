-- Building block: quantiles of the ratio of the final norm's scales, and how often it is above and below 1.
--
-- Grain: run_id, ablation, population, level, layer, head
-- Paper: section 4 (LayerNorm)
-- Kept: mart
--
-- Columns:
--   ln_scale_ratio_quantile_1 DOUBLE: 1 % of the rows have at most this S/S' [ratio]
--   ln_scale_ratio_quantile_5 DOUBLE: 5 % of the rows have at most this S/S' [ratio]
--   ln_scale_ratio_quantile_25 DOUBLE: 25 % of the rows have at most this S/S' [ratio]
--   ln_scale_ratio_quantile_50 DOUBLE: Half of the rows have at most this S/S': the median [ratio]
--   ln_scale_ratio_quantile_75 DOUBLE: 75 % of the rows have at most this S/S' [ratio]
--   ln_scale_ratio_quantile_95 DOUBLE: 95 % of the rows have at most this S/S' [ratio]
--   ln_scale_ratio_quantile_99 DOUBLE: 99 % of the rows have at most this S/S' [ratio]
--   share_above_1 DOUBLE: Rows with S/S' > 1, where the ablation shrank the scale, as a share of all [ratio]
--   share_below_1 DOUBLE: Rows with S/S' < 1, where the ablation made the scale grow, as a share of all [ratio]

WITH places AS (
    SELECT
        *,
        sum(CAST(n_tied AS DOUBLE)) OVER (
            PARTITION BY run_id, ablation, population, level, layer, head
            ORDER BY ln_scale_ratio
            ROWS UNBOUNDED PRECEDING
        ) AS n_up_to,
        sum(CAST(n_tied AS DOUBLE)) OVER (PARTITION BY run_id, ablation, population, level, layer, head) AS n_all
    FROM layernorm_counts
)
SELECT
    run_id,
    ablation,
    population,
    level,
    layer,
    head,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= n_all) AS ln_scale_ratio_quantile_1,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= 5 * n_all) AS ln_scale_ratio_quantile_5,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= 25 * n_all) AS ln_scale_ratio_quantile_25,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= 50 * n_all) AS ln_scale_ratio_quantile_50,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= 75 * n_all) AS ln_scale_ratio_quantile_75,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= 95 * n_all) AS ln_scale_ratio_quantile_95,
    min(ln_scale_ratio) FILTER (100 * n_up_to >= 99 * n_all) AS ln_scale_ratio_quantile_99,
    coalesce(sum(n_tied) FILTER (ln_scale_ratio > 1), 0) / sum(n_tied) AS share_above_1,
    coalesce(sum(n_tied) FILTER (ln_scale_ratio < 1), 0) / sum(n_tied) AS share_below_1
FROM places
GROUP BY run_id, ablation, population, level, layer, head
