-- Heavy tails of a head: quantiles, share of the top rows, Gini coefficient, kurtosis and Hill index of six measures.
--
-- Grain: run_id, ablation, measure, layer, head
-- Headline: label, measure, share_top_2, gini, excess_kurtosis, hill_2, hill_2_se, n_rows, n_clusters
-- Paper: none (how much of a head's effect is in the top 2 % of tokens of section 3)
--
-- A quantile is an observed value: the lowest one that at least its share of the rows does not exceed. The top p % are
-- the max(1, floor(p % of n)) rows with the highest values. Their share is of the sum of absolute values, so that it
-- stays within -1..1 where signs cancel, and is the plain share of the total in the abs_ measures.
--
-- The Hill index is the exponent alpha of a tail that falls as x^-alpha, from the k rows in the top p %: k / sum of
-- ln(value / cut), where cut is the value of row k + 1. Lower is heavier: up to 2, the variance keeps growing with the
-- number of rows; up to 1, so does the mean. It is NULL where row k + 1 is missing or not above 0, or all of the top
-- tie with it. Tails that follow no power law also have an index: trust it where the three cut-offs agree, and see
-- hill_curve. Its standard error is clustered by document (hill_errors), since rows of one document are correlated; from 128
-- documents and 25,000 positions on, it is estimated from a sample of them (sampled_clusters).
--
-- Failed runs are left out; running ones cover what is loaded.
--
-- Columns:
--   n_clusters BIGINT: Documents or prompts of the run that errors are clustered by [clusters]

SELECT
    run_id,
    models.name AS model,
    ablation,
    measure,
    layer,
    head,
    head_label(layer, head) AS label,
    n_rows,
    n_clusters,
    quantile_50,
    quantile_90,
    quantile_98,
    quantile_99,
    quantile_99_9,
    share_top_0_1,
    share_top_1,
    share_top_2,
    share_top_10,
    gini,
    excess_kurtosis,
    hill_10,
    hill_10_se,
    hill_2,
    hill_2_se,
    hill_0_5,
    hill_0_5_se
FROM tail_numbers
LEFT JOIN hill_errors USING (run_id, ablation, measure, layer, head)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, measure, layer, head
