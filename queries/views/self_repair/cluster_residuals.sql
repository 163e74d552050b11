-- Building block: how far each document pulls a head's means from what they are: what errors of differences between runs
-- are made of.
--
-- Grain: run_id, ablation, population, layer, head, cluster_id
-- Paper: none
-- Kept: mart
--
-- A residual is (sum of x - mean of x * rows) / all rows, of a cluster's sums (cluster_sums). They add up to 0 over the
-- clusters; G / (G - 1) * the sum of their squares is the mean's squared standard error, and of the differences of two
-- runs' residuals on the same prompts that of the difference of their means.
--
-- Columns:
--   direct_effect FLOAT: Residual of the mean direct_effect [logits]
--   logit_change FLOAT: Residual of the mean logit_change [logits]
--   self_repair FLOAT: Residual of the mean self_repair [logits]

WITH sums AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        n_rows,
        direct_effect,
        logit_change,
        logit_change + direct_effect - ablated_direct_effect AS self_repair
    FROM cluster_sums
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    cluster_id,
    CAST((direct_effect - sum(direct_effect) OVER cell / sum(n_rows) OVER cell * n_rows) / sum(n_rows) OVER cell AS FLOAT)
        AS direct_effect,
    CAST((logit_change - sum(logit_change) OVER cell / sum(n_rows) OVER cell * n_rows) / sum(n_rows) OVER cell AS FLOAT)
        AS logit_change,
    CAST((self_repair - sum(self_repair) OVER cell / sum(n_rows) OVER cell * n_rows) / sum(n_rows) OVER cell AS FLOAT)
        AS self_repair
FROM sums
WINDOW cell AS (PARTITION BY run_id, ablation, population, layer, head)
ORDER BY run_id, ablation, population, layer, head, cluster_id
