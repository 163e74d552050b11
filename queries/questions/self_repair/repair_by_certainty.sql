-- Is a head repaired where the model is certain of its prediction anyway? Self-repair by the clean prediction's
-- entropy.
--
-- Grain: run_id, is_first_choice, entropy_low
-- Paper: section 6 (iterative inference)
--
-- If later layers refine one prediction step by step, self-repair should be highest where the prediction is clear: low
-- entropy, the target the most likely token. Over all rows of one head; for whole models by target log-probability
-- decile: repair_by_kind.
--
-- Parameters:
--   model, run_id, ablation, layer, head
--
-- Columns:
--   is_first_choice BOOLEAN: True: the target is the clean prediction's most likely token
--   entropy_low INTEGER: Lower end of the bin of clean_entropy, which is 1 nat wide [nats]
--   n_rows BIGINT: Rows that the means cover [rows]
--   mean_direct_effect DOUBLE: Mean of direct_effect; > 0: pushes the correct token up [logits]
--   mean_removed_effect DOUBLE: Mean of removed_effect, the drop in direct effect under ablation [logits]
--   mean_self_repair DOUBLE: Mean of self_repair; > 0: the rest of the model compensated [logits]
--   repaired_share DOUBLE: Rows with self_repair > 0, as a share of n_rows [ratio]

WITH chosen AS (
    SELECT run_id, models.name AS model
    FROM runs
    INNER JOIN models USING (model_id)
    WHERE ($model IS NULL OR models.name = $model) AND ($run_id IS NULL OR run_id = $run_id) AND runs.status <> 'failed'
),
means AS (
    SELECT
        run_id,
        clean_rank = 1 AS is_first_choice,
        CAST(floor(clean_entropy) AS INTEGER) AS entropy_low,
        count(*) AS n_rows,
        round(sum(direct_effect), 4) / count(*) AS mean_direct_effect,
        round(sum(removed_effect), 4) / count(*) AS mean_removed_effect,
        round(sum(self_repair), 4) / count(*) AS mean_self_repair,
        count(*) FILTER (self_repair > 0) / count(*) AS repaired_share
    FROM repair_rows
    INNER JOIN tokens USING (run_id, prompt_id, pos)
    WHERE run_id IN (SELECT run_id FROM chosen) AND ablation = $ablation AND layer = $layer AND head = $head
    GROUP BY run_id, is_first_choice, entropy_low
)
SELECT
    run_id,
    model,
    is_first_choice,
    entropy_low,
    n_rows,
    mean_direct_effect,
    mean_removed_effect,
    mean_self_repair,
    repaired_share
FROM means
INNER JOIN chosen USING (run_id)
ORDER BY run_id, is_first_choice DESC, entropy_low
