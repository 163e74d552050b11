-- Building block: the histogram of the ratio of the final norm's scales, in bins counted from 1.
--
-- Grain: run_id, ablation, population, level, layer, head, bin
-- Paper: section 4 (LayerNorm)
-- Kept: mart
--
-- Columns:
--   bin TINYINT: Number of the bin: 0 holds 1 <= S/S' < 1.005, 1 the next 0.005, -1 those below; -50 all below 0.755 and
--     49 all from 1.245 on
--   n_rows BIGINT: Rows in the bin [rows]

SELECT
    run_id,
    ablation,
    population,
    level,
    layer,
    head,
    -- in whole steps of 1e-4, 50 to a bin, so that no edge is missed by float noise
    CAST(least(49, greatest(-50, floor(round((ln_scale_ratio - 1) * 10000) / 50))) AS TINYINT) AS bin,
    CAST(sum(n_tied) AS BIGINT) AS n_rows
FROM layernorm_counts
GROUP BY run_id, ablation, population, level, layer, head, bin
