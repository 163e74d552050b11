-- The logit lens after each layer: the target's log-probability and rank, and where it is top-1 correct from there on.
--
-- Grain: run_id, layer
-- Paper: section 6 (iterative inference)
--
-- The residual stream after the layer is read through the final norm and the unembedding, nothing ablated, over all
-- measured positions. A quantile is an observed value: the lowest one that at least its share of the rows does not
-- exceed. Failed runs are left out.

SELECT
    run_id,
    models.name AS model,
    layer,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    n_rows,
    mean_target_logit,
    mean_target_logprob,
    top1_share,
    top10_share,
    median_rank,
    top1_from_here_share
FROM logit_lens_numbers
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, layer
