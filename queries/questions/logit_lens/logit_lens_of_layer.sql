-- What does the logit lens predict after each layer? How often it is top-1 correct, and correct from there on.
--
-- Grain: run_id, layer
-- Paper: section 6 (iterative inference)
--
-- Runs that did not measure the logit lens have no rows.
--
-- Parameters:
--   model, run_id
--   layer INTEGER = NULL: Only after this layer, from 0; NULL: after each

SELECT
    run_id,
    model,
    layer,
    depth,
    top1_share,
    top1_from_here_share,
    top10_share,
    median_rank,
    mean_target_logprob,
    mean_target_logit,
    n_rows
FROM logit_lens_by_layer
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ($layer IS NULL OR layer = $layer)
ORDER BY run_id, layer
