-- Self-repair of a head where the logit lens after its layer is top-1 correct and where it is still wrong.
--
-- Grain: run_id, ablation, population, layer, head
-- Headline: label, mean_self_repair_right, mean_self_repair_wrong, self_repair_difference, n_right, n_wrong
-- Paper: section 6 (iterative inference)
--
-- The logit lens reads the clean residual stream after the head's layer, which contains the head's output; it is
-- correct where the target is the most likely token. Standard errors are clustered by document (cluster_sums). Failed
-- runs are left out.

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    layer,
    head,
    head_label(layer, head) AS label,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    logit_lens_splits.* EXCLUDE (run_id, ablation, population, layer, head)
FROM logit_lens_splits
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, layer, head
