-- Do a measured model's heads repress themselves as the paper's do? Slopes of feedback, measured against published.
--
-- Grain: run_id, layer, head, strength, feedback, generation, receiver
-- Paper: section 6 (iterative inference: self-repression)
--
-- Rows are there for runs that measured feedback of a published model's final weights (published_feedback.hub_name), for the
-- heads and strengths that both have. The published slopes are of few positions: two generations of them differ, too. What
-- the authors added as a control need not be as long as the head's own output; here it is. Failed runs are left out.
--
-- Columns:
--   run_id INTEGER: The run: runs.run_id
--   model VARCHAR: Name of the measured model: models.name
--   label VARCHAR: Name of the head as the field writes it, such as L9H6
--   feedback ENUM('own', 'other', 'random'): What was added to the input of the head's layer: its own clean output, another
--     head's or a random direction
--   n_rows BIGINT: Positions that the measured slope covers [rows]
--   published_slope DOUBLE: The paper's own slope; < 1: represses, > 1: reinforces [logits per logit]
--   n_published_rows INTEGER: Positions that the paper's slope covers [rows]
--   difference DOUBLE: slope - published_slope [logits per logit]
--   same_side BOOLEAN: True: both slopes are below 1, or both above; NULL: there is no measured slope

SELECT
    run_id,
    published_matches.model,
    published_model,
    layer,
    head,
    'L' || layer || 'H' || head AS label,
    strength,
    feedback,
    published_feedback.generation,
    published_feedback.receiver,
    feedback_fits.slope,
    feedback_fits.slope_se,
    feedback_fits.slope_low,
    feedback_fits.slope_high,
    feedback_fits.n_rows,
    published_feedback.slope AS published_slope,
    published_feedback.n_rows AS n_published_rows,
    feedback_fits.slope - published_feedback.slope AS difference,
    (feedback_fits.slope < 1) = (published_feedback.slope < 1) AS same_side
FROM published_matches
INNER JOIN feedback_fits USING (run_id)
INNER JOIN published_feedback USING (published_model, layer, head, strength, feedback)
ORDER BY run_id, layer, head, strength, feedback, generation, receiver
