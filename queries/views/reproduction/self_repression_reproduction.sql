-- Self-repression slopes, measured against published.
--
-- Grain: run_id, layer, head, multiple, added_vector, generation, receiver
-- Headline: label, slope, published_slope, difference, multiple, added_vector, generation, receiver, same_side
-- Paper: section 6 (iterative inference: self-repression)
--
-- There are rows for runs that measured self-repression of a published model's final weights
-- (published_self_repression.hub_name), for the heads and multiples that both have. The published slopes are of few
-- positions: two generations of them differ, too. The authors' control vectors need not have the norm of the head's own
-- output; here they do. Failed runs are left out.
--
-- Columns:
--   run_id INTEGER: The run: runs.run_id
--   added_vector ENUM('own', 'other', 'random'): What was added to the input of the head's layer: its own clean output,
--     another head's or a random direction
--   n_rows BIGINT: Positions that the measured slope covers [rows]
--   published_slope DOUBLE: The paper's own slope; < 1: represses, > 1: reinforces [logits per logit]
--   n_published_rows INTEGER: Positions that the paper's slope covers [rows]
--   difference DOUBLE: slope - published_slope [logits per logit]
--   same_side BOOLEAN: True: both slopes are below 1, or both above; NULL: the measured slope's interval holds 1, or there
--     is none

SELECT
    run_id,
    published_matches.model,
    published_model,
    layer,
    head,
    head_label(layer, head) AS label,
    multiple,
    added_vector,
    published_self_repression.generation,
    published_self_repression.receiver,
    self_repression_fits.slope,
    self_repression_fits.slope_se,
    self_repression_fits.slope_low,
    self_repression_fits.slope_high,
    self_repression_fits.n_rows,
    self_repression_fits.n_clusters,
    published_self_repression.slope AS published_slope,
    published_self_repression.n_rows AS n_published_rows,
    self_repression_fits.slope - published_self_repression.slope AS difference,
    CASE
        WHEN slope_low > 1 OR slope_high < 1 THEN (slope_high < 1) = (published_self_repression.slope < 1)
    END AS same_side
FROM published_matches
INNER JOIN self_repression_fits USING (run_id)
INNER JOIN published_self_repression USING (published_model, layer, head, multiple, added_vector)
ORDER BY run_id, layer, head, multiple, added_vector, generation, receiver
