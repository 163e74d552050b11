-- Building block: how a head responds to a vector added to its layer's input: the fit of its direct effect on the clean
-- one.
--
-- Grain: run_id, layer, head, added_vector, multiple
-- Paper: section 6 (iterative inference: self-repression)
-- Kept: mart
--
-- Least squares with intercept of y, the direct effect with the output added, on x, the clean one, over all positions:
-- slope b = sum (x - mean x) (y - mean y) / D with D = sum (x - mean x)^2, intercept a = mean y - b mean x. Positions
-- of a document are correlated, so that the error is clustered by document: with u_c the sum over the positions of
-- cluster c of (x - mean x) (y - a - b x), the standard error is sqrt(G / (G - 1) * sum u_c^2) / D over G clusters, and
-- the interval the 97.5 % point of Student's t with G - 1 degrees of freedom to either side.
--
-- Columns:
--   n_prompts BIGINT: Prompts that the fit covers [prompts]
--   n_clusters BIGINT: Documents or prompts that intervals are clustered by [clusters]
--   n_rows BIGINT: Positions that the fit covers [rows]
--   mean_direct_effect DOUBLE: Mean of x, the head's direct effect with nothing added [logits]
--   mean_direct_effect_after DOUBLE: Mean of y, its direct effect with the output added, at the clean scale [logits]
--   correlation DOUBLE: Pearson correlation of y with x; NULL: one of them is constant [-1..1]
--   intercept DOUBLE: The fit's y at x = 0 [logits]
--   slope DOUBLE: The fit's change of y per logit of x; 1: nothing but a constant is added; NULL: all x are the
--     same [logits per logit]
--   own_scale_slope DOUBLE: The slope of z, the direct effect at the final norm's scale with the vector added; NULL:
--     not measured, or all x are the same [logits per logit]

WITH scales AS (
    SELECT
        run_id,
        layer,
        head,
        added_vector,
        multiple,
        cluster_id,
        CAST(n_rows AS DOUBLE) AS n,
        sum_x AS x,
        sum_xx AS xx,
        unnest(
            [
                {'is_clean_scale': true, 'y': sum_y, 'xy': sum_xy, 'yy': sum_yy},
                {'is_clean_scale': false, 'y': sum_z, 'xy': sum_xz, 'yy': sum_zz}
            ],
            recursive := true
        )
    FROM self_repression_sums
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
),
totals AS (
    SELECT
        *,
        count(*) OVER of_fit AS n_prompts,
        sum(n) OVER of_fit AS n_all,
        sum(x) OVER of_fit / sum(n) OVER of_fit AS mean_x,
        sum(y) OVER of_fit / sum(n) OVER of_fit AS mean_y,
        sum(xx) OVER of_fit AS xx_all,
        sum(xy) OVER of_fit AS xy_all,
        sum(yy) OVER of_fit AS yy_all
    FROM scales
    WHERE y IS NOT NULL
    WINDOW of_fit AS (PARTITION BY run_id, layer, head, added_vector, multiple, is_clean_scale)
),
spreads AS (
    SELECT
        *,
        -- what is left of a constant's squares by the subtraction is no spread
        CASE WHEN xx_all - n_all * mean_x ** 2 > 1e-11 * xx_all THEN xx_all - n_all * mean_x ** 2 END AS x_squares,
        CASE WHEN yy_all - n_all * mean_y ** 2 > 1e-11 * yy_all THEN yy_all - n_all * mean_y ** 2 END AS y_squares,
        xy_all - n_all * mean_x * mean_y AS products
    FROM totals
),
slopes AS (
    SELECT
        *,
        products / x_squares AS slope,
        mean_y - products / x_squares * mean_x AS intercept,
        (xy - mean_x * y)
            - (mean_y - products / x_squares * mean_x) * (x - n * mean_x)
            - products / x_squares * (xx - mean_x * x) AS prompt_score
    FROM spreads
),
cluster_scores AS (
    SELECT
        run_id,
        layer,
        head,
        added_vector,
        multiple,
        is_clean_scale,
        any_value(COLUMNS('^(n_prompts|n_all|mean_[xy]|[xy]_squares|products|intercept|slope)$')) AS '\0',
        sum(prompt_score) AS score
    FROM slopes
    GROUP BY run_id, layer, head, added_vector, multiple, is_clean_scale, cluster_id
),
fits AS (
    SELECT
        run_id,
        layer,
        head,
        added_vector,
        multiple,
        is_clean_scale,
        any_value(COLUMNS('^(n_prompts|n_all|mean_[xy]|intercept|slope)$')) AS '\0',
        count(*) AS n_clusters,
        any_value(products) / sqrt(any_value(x_squares) * any_value(y_squares)) AS rounded_correlation,
        sqrt(sum(score * score) * count(*) / nullif(count(*) - 1, 0)) / any_value(x_squares) AS standard_error
    FROM cluster_scores
    GROUP BY run_id, layer, head, added_vector, multiple, is_clean_scale
),
intervals AS (
    SELECT
        *,
        CASE
            WHEN rounded_correlation > 1 THEN 1
            WHEN rounded_correlation < -1 THEN -1
            ELSE rounded_correlation
        END AS correlation,
        t_975(n_clusters - 1) * standard_error AS half_width
    FROM fits
)
SELECT
    run_id,
    layer,
    head,
    added_vector,
    multiple,
    max(n_prompts) FILTER (is_clean_scale) AS n_prompts,
    max(n_clusters) FILTER (is_clean_scale) AS n_clusters,
    CAST(max(n_all) FILTER (is_clean_scale) AS BIGINT) AS n_rows,
    max(mean_x) FILTER (is_clean_scale) AS mean_direct_effect,
    max(mean_y) FILTER (is_clean_scale) AS mean_direct_effect_after,
    max(correlation) FILTER (is_clean_scale) AS correlation,
    max(intercept) FILTER (is_clean_scale) AS intercept,
    max(slope) FILTER (is_clean_scale) AS slope,
    max(standard_error) FILTER (is_clean_scale) AS slope_se,
    max(slope - half_width) FILTER (is_clean_scale) AS slope_low,
    max(slope + half_width) FILTER (is_clean_scale) AS slope_high,
    max(slope) FILTER (NOT is_clean_scale) AS own_scale_slope,
    max(standard_error) FILTER (NOT is_clean_scale) AS own_scale_slope_se,
    max(slope - half_width) FILTER (NOT is_clean_scale) AS own_scale_slope_low,
    max(slope + half_width) FILTER (NOT is_clean_scale) AS own_scale_slope_high
FROM intervals
GROUP BY run_id, layer, head, added_vector, multiple
ORDER BY run_id, layer, head, added_vector, multiple
