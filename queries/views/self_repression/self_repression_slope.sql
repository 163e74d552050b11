-- Self-repression and reinforcement: the slope of a head's direct effect after its own output is added to its input.
--
-- Grain: run_id, layer, head, multiple
-- Headline: label, multiple, slope, verdict, own_scale_slope, other_slope, random_slope, n_rows
-- Paper: section 6 (iterative inference: self-repression)
--
-- A multiple of the head's own clean output is added to the input of its own layer at the same position, and its
-- direct effect with that is fitted on the clean one over all positions (self_repression_fits says how, and what the
-- errors are). A slope below 1 means self-repression: the head writes less of what is already written; above 1,
-- reinforcement. Two controls add another head's output and a random direction of the same length: a slope that they
-- share says nothing about the head's own output.
--
-- A verdict says that the own slope differs by more than 0.05 from 1, and to the same side by more than 0.05 from each
-- control's slope: the whole interval does, which holds at 95 % for all heads of the run and multiple together (Bonferroni).
-- That of a difference, sqrt of the sum of the two half widths' squares to either side, assumes independent slopes; they cover
-- the same positions and are positively correlated, so it is too wide. Intervals in slope_low and slope_high are of one head
-- alone. Failed runs are left out.
--
-- Columns:
--   other_slope DOUBLE: The slope with another head's output added; NULL: not measured [logits per logit]
--   random_slope DOUBLE: The slope with a random direction added; NULL: not measured [logits per logit]
--   n_tested BIGINT: Heads of the run and multiple, for which the verdict's intervals hold together [heads]
--   verdict VARCHAR: 'repressing' or 'reinforcing' where slope is below or above both 1 and the controls, by more than 0.05;
--     'neither' where intervals reach less far than that to either side; 'not enough data': they reach further, or fewer than
--     12 clusters; NULL: a control is missing, or an interval is

WITH slopes AS (
    SELECT
        own.*,
        other.slope AS other_slope,
        other.slope_se AS other_slope_se,
        other.slope_low AS other_slope_low,
        other.slope_high AS other_slope_high,
        random.slope AS random_slope,
        random.slope_se AS random_slope_se,
        random.slope_low AS random_slope_low,
        random.slope_high AS random_slope_high,
        own.slope - other.slope AS above_other,
        own.slope - random.slope AS above_random,
        count(*) OVER (PARTITION BY own.run_id, own.multiple) AS n_tested,
        t_of_many(own.n_clusters - 1, n_tested) AS t,
        t * own.slope_se AS width,
        t * sqrt(own.slope_se ** 2 + other.slope_se ** 2) AS other_width,
        t * sqrt(own.slope_se ** 2 + random.slope_se ** 2) AS random_width
    FROM self_repression_fits AS own
    LEFT JOIN self_repression_fits AS other
        ON other.run_id = own.run_id
        AND other.layer = own.layer
        AND other.head = own.head
        AND other.multiple = own.multiple
        AND other.added_vector = 'other'
    LEFT JOIN self_repression_fits AS random
        ON random.run_id = own.run_id
        AND random.layer = own.layer
        AND random.head = own.head
        AND random.multiple = own.multiple
        AND random.added_vector = 'random'
    WHERE own.added_vector = 'own'
)
SELECT
    run_id,
    models.name AS model,
    layer,
    head,
    head_label(layer, head) AS label,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    multiple,
    slopes.n_prompts,
    slopes.n_clusters,
    n_rows,
    mean_direct_effect,
    mean_direct_effect_after,
    slope,
    slope_se,
    slope_low,
    slope_high,
    intercept,
    correlation,
    own_scale_slope,
    own_scale_slope_se,
    own_scale_slope_low,
    own_scale_slope_high,
    other_slope,
    other_slope_se,
    other_slope_low,
    other_slope_high,
    random_slope,
    random_slope_se,
    random_slope_low,
    random_slope_high,
    n_tested,
    CASE
        WHEN other_width + random_width IS NULL THEN NULL
        WHEN slopes.n_clusters < 12 THEN 'not enough data'
        WHEN greatest(slope - 1 + width, above_other + other_width, above_random + random_width) < -0.05 THEN 'repressing'
        WHEN least(slope - 1 - width, above_other - other_width, above_random - random_width) > 0.05 THEN 'reinforcing'
        WHEN greatest(width, other_width, random_width) > 0.05 THEN 'not enough data'
        ELSE 'neither'
    END AS verdict
FROM slopes
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, layer, head, multiple
