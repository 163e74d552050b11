-- How well a run agrees with the paper over all heads, compared with the run-to-run agreement of the authors' own
-- data.
--
-- Grain: run_id, ablation, population, published_run, quantity
-- Headline: quantity, spearman, authors_spearman, verdict, mean_absolute_difference, authors_mean_absolute_difference,
--   n_heads, published_run
-- Paper: section 3 (what its authors released)
--
-- A scatter plot of `reproduction`, one dot per head, has published values on x and measured ones on y. The interval of
-- Spearman's correlation is over heads: Fisher's transform with the variance of Bonett and Wright (2000),
-- (1 + spearman^2 / 2) / (heads - 3). The standard is the correlation of two runs of the authors' own
-- (published_agreement, of pythia-160m), with a margin of 0.15 below it, stated before: the interval of 144 heads reaches 0.07 to
-- either side. A quantity agrees where the whole interval lies above authors_spearman - 0.15, and differs where none of
-- it does. Else there is not enough data if the interval is wider than 0.3, and it is unclear if not; with fewer than 12
-- clusters there is not enough data. Heads for which this run has no number are left out. Failed runs are left out.
--
-- Columns:
--   n_heads BIGINT: Heads that are compared [heads]
--   spearman DOUBLE: Spearman's rank correlation over heads, ties share their average rank; NULL where all heads are
--     equal on one side [-1..1]
--   spearman_low DOUBLE: Lower end of its 95 % interval; NULL: fewer than 4 heads, or spearman is -1 or 1 [-1..1]
--   spearman_high DOUBLE: Upper end of its 95 % interval; NULL: fewer than 4 heads, or spearman is -1 or 1 [-1..1]
--   pearson DOUBLE: Pearson correlation over heads; NULL where all heads are equal on one side [-1..1]
--   mean_absolute_difference DOUBLE: Mean over heads of |measured - published| [logits or ratio]
--   slope DOUBLE: Least-squares change of the measured value per unit of the published one; NULL: all heads are
--     published with the same value [per unit]
--   authors_spearman DOUBLE: spearman of the authors' own two runs; NULL: they published one [-1..1]
--   authors_pearson DOUBLE: pearson of the authors' own two runs; NULL: they published one [-1..1]
--   authors_mean_absolute_difference DOUBLE: mean_absolute_difference of the authors' own two runs; NULL: they published
--     one [logits or ratio]
--   verdict VARCHAR: 'agrees', 'differs' or 'unclear', by the interval of spearman and authors_spearman - 0.15; 'not enough
--     data': fewer than 12 clusters, no interval, or one that contains that bound and is wider than 0.3; NULL: spearman or
--     authors_spearman is not known

WITH shared_places AS (
    SELECT
        *,
        rank() OVER (
            PARTITION BY run_id, population, published_run, quantity ORDER BY measured_value
        ) + (count(*) OVER (
            PARTITION BY run_id, population, published_run, quantity, measured_value
        ) - 1) / 2 AS measured_place,
        rank() OVER (
            PARTITION BY run_id, population, published_run, quantity ORDER BY published_value
        ) + (count(*) OVER (
            PARTITION BY run_id, population, published_run, quantity, published_value
        ) - 1) / 2 AS published_place
    FROM reproduction
    WHERE measured_value IS NOT NULL
),
agreements AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        published_model,
        published_run,
        quantity,
        count(*) AS n_heads,
        max(n_clusters) AS n_clusters,
        min(measured_value) < max(measured_value) AND min(published_value) < max(published_value) AS both_differ,
        CASE WHEN both_differ THEN corr(measured_place, published_place) END AS spearman,
        CASE WHEN both_differ THEN corr(measured_value, published_value) END AS pearson,
        avg(abs(difference)) AS mean_absolute_difference,
        CASE WHEN min(published_value) < max(published_value) THEN regr_slope(measured_value, published_value) END AS slope
    FROM shared_places
    GROUP BY run_id, model, ablation, population, published_model, published_run, quantity
),
intervals AS (
    SELECT
        *,
        -- of the correlation's inverse hyperbolic tangent
        1.96 * sqrt((1 + spearman ** 2 / 2) / nullif(greatest(n_heads - 3, 0), 0)) AS half_width,
        CASE WHEN n_heads > 3 AND abs(spearman) < 1 - 1e-12 THEN spearman END AS inner_spearman
    FROM agreements
)
SELECT
    intervals.run_id,
    intervals.model,
    intervals.ablation,
    population,
    intervals.published_model,
    intervals.published_run,
    quantity,
    intervals.n_heads,
    intervals.n_clusters,
    intervals.spearman,
    tanh(atanh(inner_spearman) - half_width) AS spearman_low,
    tanh(atanh(inner_spearman) + half_width) AS spearman_high,
    intervals.pearson,
    intervals.mean_absolute_difference,
    intervals.slope,
    authors.spearman AS authors_spearman,
    authors.pearson AS authors_pearson,
    authors.mean_absolute_difference AS authors_mean_absolute_difference,
    CASE
        WHEN intervals.spearman IS NULL OR authors.spearman IS NULL THEN NULL
        WHEN intervals.n_clusters < 12 OR spearman_low IS NULL THEN 'not enough data'
        WHEN spearman_low >= authors.spearman - 0.15 THEN 'agrees'
        WHEN spearman_high < authors.spearman - 0.15 THEN 'differs'
        WHEN spearman_high - spearman_low > 0.3 THEN 'not enough data'
        ELSE 'unclear'
    END AS verdict
FROM intervals
LEFT JOIN published_agreement AS authors USING (population, quantity)
ORDER BY run_id, population = 'all', population, published_run, quantity
