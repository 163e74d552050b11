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
--   share_top_1 DOUBLE: Sum over the 1 % of rows with the highest values, as a share of the sum of absolute values of all
--     rows; NULL: all are 0 [ratio]
--   share_top_2 DOUBLE: Sum over the 2 % of rows with the highest values, as a share of the sum of absolute values of all
--     rows; NULL: all are 0 [ratio]
--   share_top_10 DOUBLE: Sum over the 10 % of rows with the highest values, as a share of the sum of absolute values of
--     all rows; NULL: all are 0 [ratio]
--   gini DOUBLE: Gini coefficient, mean absolute difference of two rows / (2 * mean absolute value); 0: all rows are equal,
--     1: one row holds everything; NULL: all are 0 [ratio]
--   excess_kurtosis DOUBLE: Fourth central moment / variance^2 - 3; 0: as a normal distribution, > 0: heavier tails;
--     NULL: all rows are equal [ratio]
--   hill_10 DOUBLE: Hill index of the top 10 % of rows; lower: heavier tail [exponent]
--   cut_10 DOUBLE: The highest value below the top 10 %; NULL: none above 0, and no index [logits]
--   cut_steepness_10 DOUBLE: How fast ln(value) falls with the number of rows around that cut, from 0.7 to 1.3 times as many,
--     times their number; 1 / alpha in a power law; NULL: no value above 0 there [ratio]
--   hill_2 DOUBLE: Hill index of the top 2 % of rows [exponent]
--   cut_2 DOUBLE: The highest value below the top 2 %; NULL: none above 0, and no index [logits]
--   cut_steepness_2 DOUBLE: How fast ln(value) falls with the number of rows around that cut, from 0.7 to 1.3 times as many,
--     times their number; 1 / alpha in a power law; NULL: no value above 0 there [ratio]
--   hill_0_5 DOUBLE: Hill index of the top 0.5 % of rows [exponent]
--   cut_0_5 DOUBLE: The highest value below the top 0.5 %; NULL: none above 0, and no index [logits]
--   cut_steepness_0_5 DOUBLE: How fast ln(value) falls with the number of rows around that cut, from 0.7 to 1.3 times as many,
--     times their number; 1 / alpha in a power law; NULL: no value above 0 there [ratio]

WITH places AS (
    SELECT
        *,
        -- rows up to this value, in whole thousandths of all: at least 50 of them is exactly when 5 % of the rows are
        CAST(1000 * (n_rows - n_above) // n_rows AS SMALLINT) AS thousandths,
        value - mean AS distance,
        greatest(1, n_rows // 1000) AS n_top_0_1,
        greatest(1, n_rows // 200) AS n_top_0_5,
        greatest(1, n_rows // 100) AS n_top_1,
        greatest(1, n_rows // 50) AS n_top_2,
        greatest(1, n_rows // 10) AS n_top_10,
        CASE WHEN value > 0 AND n_above < n_top_10 THEN ln(value) END AS logarithm
    FROM tail_places
),
sums AS (
    SELECT
        distribution,
        any_value(n_top_10) AS n_hill_10,
        any_value(n_top_2) AS n_hill_2,
        any_value(n_top_0_5) AS n_hill_0_5,
        max(value) AS highest,
        max(value) - min(value) AS spread,
        sum(abs(value) * n_tied) AS absolute_sum,
        sum(value * n_tied * (n_tied - 2 * n_reached + n_rows)) AS differences, -- sum of |x - y| over all pairs of rows
        sum(n_tied * distance * distance) / any_value(n_rows) AS variance,
        sum(n_tied * distance * distance * distance * distance) / any_value(n_rows) AS fourth_moment,
        min(value) FILTER (thousandths >= 50) AS quantile_5,
        min(value) FILTER (thousandths >= 250) AS quantile_25,
        min(value) FILTER (thousandths >= 500) AS quantile_50,
        min(value) FILTER (thousandths >= 750) AS quantile_75,
        min(value) FILTER (thousandths >= 900) AS quantile_90,
        min(value) FILTER (thousandths >= 950) AS quantile_95,
        min(value) FILTER (thousandths >= 980) AS quantile_98,
        min(value) FILTER (thousandths >= 990) AS quantile_99,
        min(value) FILTER (thousandths >= 999) AS quantile_99_9,
        sum(value * least(n_tied, n_top_0_1 - n_above)) FILTER (n_above < n_top_0_1) AS sum_top_0_1,
        sum(value * least(n_tied, n_top_1 - n_above)) FILTER (n_above < n_top_1) AS sum_top_1,
        sum(value * least(n_tied, n_top_2 - n_above)) FILTER (n_above < n_top_2) AS sum_top_2,
        sum(value * least(n_tied, n_top_10 - n_above)) FILTER (n_above < n_top_10) AS sum_top_10,
        sum(logarithm * least(n_tied, n_top_10 - n_above)) FILTER (n_above < n_top_10) AS logs_10,
        max(value) FILTER (n_reached > n_top_10) AS cut_10,
        max(value) FILTER (n_reached > 7 * n_top_10 // 10) AS before_10,
        max(value) FILTER (n_reached > (13 * n_top_10 + 9) // 10) AS after_10,
        sum(logarithm * least(n_tied, n_top_2 - n_above)) FILTER (n_above < n_top_2) AS logs_2,
        max(value) FILTER (n_reached > n_top_2) AS cut_2,
        max(value) FILTER (n_reached > 7 * n_top_2 // 10) AS before_2,
        max(value) FILTER (n_reached > (13 * n_top_2 + 9) // 10) AS after_2,
        sum(logarithm * least(n_tied, n_top_0_5 - n_above)) FILTER (n_above < n_top_0_5) AS logs_0_5,
        max(value) FILTER (n_reached > n_top_0_5) AS cut_0_5,
        max(value) FILTER (n_reached > 7 * n_top_0_5 // 10) AS before_0_5,
        max(value) FILTER (n_reached > (13 * n_top_0_5 + 9) // 10) AS after_0_5
    FROM places
    GROUP BY distribution
),
tail_indices AS (
    SELECT
        *,
        CASE WHEN cut_10 > 0 AND highest > cut_10 THEN n_hill_10 / (logs_10 - n_hill_10 * ln(cut_10)) END AS hill_10,
        CASE WHEN cut_2 > 0 AND highest > cut_2 THEN n_hill_2 / (logs_2 - n_hill_2 * ln(cut_2)) END AS hill_2,
        CASE WHEN cut_0_5 > 0 AND highest > cut_0_5 THEN n_hill_0_5 / (logs_0_5 - n_hill_0_5 * ln(cut_0_5)) END AS hill_0_5
    FROM sums
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
    differences / n_rows / nullif(absolute_sum, 0) AS gini,
    CASE WHEN spread > 0 THEN fourth_moment / variance ** 2 - 3 END AS excess_kurtosis,
    hill_10,
    CASE WHEN hill_10 IS NOT NULL THEN cut_10 END AS cut_10,
    CASE
        WHEN hill_10 IS NOT NULL AND after_10 > 0
            THEN n_hill_10 * ln(before_10 / after_10) / ((13 * n_hill_10 + 9) // 10 - 7 * n_hill_10 // 10)
    END AS cut_steepness_10,
    hill_2,
    CASE WHEN hill_2 IS NOT NULL THEN cut_2 END AS cut_2,
    CASE
        WHEN hill_2 IS NOT NULL AND after_2 > 0
            THEN n_hill_2 * ln(before_2 / after_2) / ((13 * n_hill_2 + 9) // 10 - 7 * n_hill_2 // 10)
    END AS cut_steepness_2,
    hill_0_5,
    CASE WHEN hill_0_5 IS NOT NULL THEN cut_0_5 END AS cut_0_5,
    CASE
        WHEN hill_0_5 IS NOT NULL AND after_0_5 > 0
            THEN n_hill_0_5 * ln(before_0_5 / after_0_5) / ((13 * n_hill_0_5 + 9) // 10 - 7 * n_hill_0_5 // 10)
    END AS cut_steepness_0_5
FROM tail_distributions
INNER JOIN tail_indices USING (distribution)
