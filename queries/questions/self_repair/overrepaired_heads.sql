-- Which heads are over-repaired? The highest share of rows with self-repair above direct effect first.
--
-- Grain: run_id, layer, head
-- Paper: section 4 (noise)
--
-- Parameters:
--   model, run_id, ablation, population, at_most

SELECT
    run_id,
    model,
    label,
    overrepaired_share,
    overrepaired_share_se,
    repaired_share,
    mean_self_repair,
    mean_direct_effect,
    n_rows,
    n_clusters,
    layer,
    head
FROM head_repair
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = coalesce($population, default_population(run_id))
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY overrepaired_share DESC, layer, head) <= $at_most
ORDER BY run_id, overrepaired_share DESC, layer, head
