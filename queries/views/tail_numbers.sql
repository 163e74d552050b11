-- Building block: how unevenly each measure of a head is spread over its rows: moments, quantiles, Gini, shares, Hill index.
--
-- Grain: run_id, ablation, measure, layer, head
-- Paper: none
-- Kept: mart
--
-- `head_tail` says how each number is defined.
--
-- Columns:
--   n_rows BIGINT: Rows of the distribution [rows]
--   mean DOUBLE: Mean of the measure [logits]
--   variance DOUBLE: Mean squared distance from the mean (divided by n) [logits^2]
--   quantile_5 DOUBLE: 5 % of the rows have at most this value [logits]
--   quantile_25 DOUBLE: 25 % of the rows have at most this value [logits]
--   quantile_50 DOUBLE: Half of the rows have at most this value: the median [logits]
--   quantile_75 DOUBLE: 75 % of the rows have at most this value [logits]
--   quantile_90 DOUBLE: 90 % of the rows have at most this value [logits]
--   quantile_95 DOUBLE: 95 % of the rows have at most this value [logits]
--   quantile_98 DOUBLE: 98 % of the rows have at most this value [logits]
--   quantile_99 DOUBLE: 99 % of the rows have at most this value [logits]
--   quantile_99_9 DOUBLE: 99.9 % of the rows have at most this value [logits]
--   share_top_0_1 DOUBLE: Sum over the 0.1 % of rows with the highest values, as a share of the sum of absolute values of
--     all rows; NULL: all are 0 [ratio]
--   share_top_1 DOUBLE: The same of the top 1 % of rows [ratio]
--   share_top_2 DOUBLE: The same of the top 2 % of rows [ratio]
--   share_top_10 DOUBLE: The same of the top 10 % of rows [ratio]
--   gini DOUBLE: Gini coefficient, mean absolute difference of two rows / (2 * mean absolute value); 0: all rows are equal,
--     1: one row holds everything; NULL: all are 0 [ratio]
--   excess_kurtosis DOUBLE: Fourth central moment / variance^2 - 3; 0: as a normal distribution, > 0: heavier tails;
--     NULL: all rows are equal [ratio]
--   hill_10 DOUBLE: Hill index of the top 10 % of rows; lower: heavier tail [exponent]
--   hill_10_se DOUBLE: Standard error of hill_10 [exponent]
--   hill_2 DOUBLE: Hill index of the top 2 % of rows [exponent]
--   hill_2_se DOUBLE: Standard error of hill_2 [exponent]
--   hill_0_5 DOUBLE: Hill index of the top 0.5 % of rows [exponent]
--   hill_0_5_se DOUBLE: Standard error of hill_0_5 [exponent]

WITH places AS (
    SELECT
        *,
        n_rows - n_above AS n_up_to,
        greatest(1, n_rows // 1000) AS n_top_0_1,
        greatest(1, n_rows // 200) AS n_top_0_5,
        greatest(1, n_rows // 100) AS n_top_1,
        greatest(1, n_rows // 50) AS n_top_2,
        greatest(1, n_rows // 10) AS n_top_10
    FROM tail_places
),
sums AS (
    SELECT
        distribution,
        any_value(n_rows) AS n_all,
        sum(value * n_tied) / n_all AS mean,
        sum(abs(value) * n_tied) AS absolute_sum,
        sum(value * n_tied * (n_tied - 2 * n_reached + n_rows)) AS differences, -- sum of |x - y| over all pairs of rows
        max(value) - min(value) AS spread,
        min(value) FILTER (100 * n_up_to >= 5 * n_rows) AS quantile_5,
        min(value) FILTER (100 * n_up_to >= 25 * n_rows) AS quantile_25,
        min(value) FILTER (100 * n_up_to >= 50 * n_rows) AS quantile_50,
        min(value) FILTER (100 * n_up_to >= 75 * n_rows) AS quantile_75,
        min(value) FILTER (100 * n_up_to >= 90 * n_rows) AS quantile_90,
        min(value) FILTER (100 * n_up_to >= 95 * n_rows) AS quantile_95,
        min(value) FILTER (100 * n_up_to >= 98 * n_rows) AS quantile_98,
        min(value) FILTER (100 * n_up_to >= 99 * n_rows) AS quantile_99,
        min(value) FILTER (1000 * n_up_to >= 999 * n_rows) AS quantile_99_9,
        sum(value * least(n_tied, n_top_0_1 - n_above)) FILTER (n_above < n_top_0_1) AS sum_top_0_1,
        sum(value * least(n_tied, n_top_1 - n_above)) FILTER (n_above < n_top_1) AS sum_top_1,
        sum(value * least(n_tied, n_top_2 - n_above)) FILTER (n_above < n_top_2) AS sum_top_2,
        sum(value * least(n_tied, n_top_10 - n_above)) FILTER (n_above < n_top_10) AS sum_top_10,
        any_value(n_top_10) AS n_hill_10,
        any_value(n_top_2) AS n_hill_2,
        any_value(n_top_0_5) AS n_hill_0_5,
        max(value) FILTER (n_reached > n_top_10) AS cut_10,
        max(value) FILTER (n_reached > n_top_2) AS cut_2,
        max(value) FILTER (n_reached > n_top_0_5) AS cut_0_5
    FROM places
    GROUP BY distribution
),
distances AS (
    SELECT
        sums.*,
        tail_places.n_tied,
        tail_places.value - sums.mean AS distance,
        -- ties with the cut add ln 1 = 0, so that rows above the cut are all that count
        CASE WHEN cut_10 > 0 AND value > cut_10 THEN n_tied * ln(value / cut_10) END AS logs_10,
        CASE WHEN cut_2 > 0 AND value > cut_2 THEN n_tied * ln(value / cut_2) END AS logs_2,
        CASE WHEN cut_0_5 > 0 AND value > cut_0_5 THEN n_tied * ln(value / cut_0_5) END AS logs_0_5
    FROM tail_places
    INNER JOIN sums USING (distribution)
),
moments AS (
    SELECT
        distribution,
        sum(n_tied * distance * distance) / any_value(n_all) AS variance,
        sum(n_tied * distance * distance * distance * distance) / any_value(n_all) AS fourth_moment,
        any_value(n_hill_10) / sum(logs_10) AS hill_10,
        any_value(n_hill_2) / sum(logs_2) AS hill_2,
        any_value(n_hill_0_5) / sum(logs_0_5) AS hill_0_5
    FROM distances
    GROUP BY distribution
)
SELECT
    run_id,
    ablation,
    measure,
    layer,
    head,
    n_rows,
    mean,
    CASE WHEN spread > 0 THEN variance ELSE 0 END AS variance,
    quantile_5,
    quantile_25,
    quantile_50,
    quantile_75,
    quantile_90,
    quantile_95,
    quantile_98,
    quantile_99,
    quantile_99_9,
    sum_top_0_1 / nullif(absolute_sum, 0) AS share_top_0_1,
    sum_top_1 / nullif(absolute_sum, 0) AS share_top_1,
    sum_top_2 / nullif(absolute_sum, 0) AS share_top_2,
    sum_top_10 / nullif(absolute_sum, 0) AS share_top_10,
    differences / n_all / nullif(absolute_sum, 0) AS gini,
    CASE WHEN spread > 0 THEN fourth_moment / variance ** 2 - 3 END AS excess_kurtosis,
    hill_10,
    hill_10 / sqrt(n_hill_10) AS hill_10_se,
    hill_2,
    hill_2 / sqrt(n_hill_2) AS hill_2_se,
    hill_0_5,
    hill_0_5 / sqrt(n_hill_0_5) AS hill_0_5_se
FROM tail_distributions
INNER JOIN sums USING (distribution)
INNER JOIN moments USING (distribution)
