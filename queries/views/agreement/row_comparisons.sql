-- Building block: statistics of two numbers of each row together, which do not follow from their separate
-- distributions.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 3 (how noisy self-repair is)
-- Kept: stage
--
-- Columns:
--   covariance DOUBLE: Covariance of logit_change with direct_effect over the rows (divided by n) [logits^2]
--   repair_ratio_quantile_5 FLOAT: 5 % of the rows' self_repair / direct_effect are at most this; rows with
--     direct_effect = 0 are left out; NULL: there are no others [ratio]
--   repair_ratio_quantile_25 FLOAT: 25 % of the rows' self_repair / direct_effect are at most this; rows with
--     direct_effect = 0 are left out; NULL: there are no others [ratio]
--   repair_ratio_quantile_50 FLOAT: Half of the rows' self_repair / direct_effect are at most this: the median; rows
--     with direct_effect = 0 are left out; NULL: there are no others [ratio]
--   repair_ratio_quantile_75 FLOAT: 75 % of the rows' self_repair / direct_effect are at most this; rows with
--     direct_effect = 0 are left out; NULL: there are no others [ratio]
--   repair_ratio_quantile_95 FLOAT: 95 % of the rows' self_repair / direct_effect are at most this; rows with
--     direct_effect = 0 are left out; NULL: there are no others [ratio]

WITH heads AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        covar_pop(logit_change, direct_effect) AS covariance,
        quantile_disc(self_repair / nullif(direct_effect, 0), [0.05, 0.25, 0.5, 0.75, 0.95]) AS ratio_quantiles
    FROM repair_rows
    GROUP BY run_id, ablation, layer, head
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    covariance,
    ratio_quantiles[1] AS repair_ratio_quantile_5,
    ratio_quantiles[2] AS repair_ratio_quantile_25,
    ratio_quantiles[3] AS repair_ratio_quantile_50,
    ratio_quantiles[4] AS repair_ratio_quantile_75,
    ratio_quantiles[5] AS repair_ratio_quantile_95
FROM heads
