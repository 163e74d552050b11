-- Building block: at most 100 well chosen values of each distribution, and what is above them: the points of its
-- curves.
--
-- Grain: run_id, ablation, measure, layer, head, value
-- Paper: none
-- Kept: mart
--
-- Every point is exact, nothing is interpolated. The rows, from the highest value down, are cut into 60 stretches of equal
-- length in the logarithm of their number and again into 40 of equal numbers; a point is the lowest value of a stretch.
-- The highest value is a stretch of its own, however many rows have it. So it is a point (in a distribution of a few rows,
-- nearly every value is) and so is the lowest. Stored in the order of the heads, so that one head's points are found without
-- reading the others.
--
-- Columns:
--   value DOUBLE: A value of the measure [logits]
--   n_reached BIGINT: Rows with this value or a higher one [rows]
--   n_rows BIGINT: Rows of the distribution [rows]
--   reached_total_share DOUBLE: Sum over the rows with this value or a higher one, as a share of the sum of absolute values
--     of all rows; NULL: all are 0 [ratio]
--   next_value DOUBLE: The next lower value of the distribution; NULL: this is the lowest [logits]
--   hill DOUBLE: Hill index of the rows with this value or a higher one, next_value being the cut; lower: heavier tail;
--     NULL: next_value is not above 0 [exponent]

WITH stretches AS (
    SELECT
        distribution,
        CASE WHEN n_above = 0 THEN -1 ELSE CAST(floor(60 * ln(n_reached) / ln(n_rows + 1)) AS TINYINT) END
            AS stretch_of_logarithm,
        CAST(40 * n_reached // (n_rows + 1) AS TINYINT) AS stretch_of_rows,
        min(value) AS value,
        max(value) AS highest_value,
        max(n_reached) AS n_reached,
        sum(value * n_tied) AS value_sum,
        sum(abs(value) * n_tied) AS absolute_sum,
        sum(CASE WHEN value > 0 THEN ln(value) * n_tied END) AS logarithm_sum
    FROM tail_places
    GROUP BY distribution, stretch_of_logarithm, stretch_of_rows
),
points AS (
    SELECT
        distribution,
        value,
        n_reached,
        sum(value_sum) OVER down AS value_sum,
        sum(logarithm_sum) OVER down AS logarithm_sum,
        sum(absolute_sum) OVER (PARTITION BY distribution) AS absolute_total,
        lead(highest_value) OVER (PARTITION BY distribution ORDER BY n_reached) AS next_value
    FROM stretches
    WINDOW down AS (PARTITION BY distribution ORDER BY n_reached ROWS UNBOUNDED PRECEDING)
)
SELECT
    run_id,
    ablation,
    measure,
    layer,
    head,
    head_label(layer, head) AS label,
    value,
    n_reached,
    n_rows,
    value_sum / nullif(absolute_total, 0) AS reached_total_share,
    next_value,
    CASE WHEN next_value > 0 THEN n_reached / (logarithm_sum - n_reached * ln(next_value)) END AS hill
FROM points
INNER JOIN tail_distributions USING (distribution)
ORDER BY run_id, ablation, measure, layer, head, value
