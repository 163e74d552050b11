-- Which target tokens are repaired most when one head is ablated? Means over a head's rows by target.
--
-- Grain: run_id, target_id
-- Paper: none
--
-- Parameters:
--   model, run_id, ablation, layer, head
--   at_least INTEGER = 20: Rows that a target must have to be shown [rows]
--   at_most
--
-- Columns:
--   n_rows BIGINT: Rows that the means cover [rows]
--   mean_self_repair DOUBLE: Mean of self_repair; > 0: the rest of the model compensated [logits]
--   mean_direct_effect DOUBLE: Mean of direct_effect; > 0: pushes the correct token up [logits]
--   mean_removed_effect DOUBLE: Mean of removed_effect, the drop in direct effect under ablation [logits]
--   mean_logit_change DOUBLE: Mean of logit_change; < 0: the ablation hurts [logits]

WITH chosen AS (
    SELECT run_id, models.name AS model
    FROM runs
    INNER JOIN models USING (model_id)
    WHERE ($model IS NULL OR models.name = $model) AND ($run_id IS NULL OR run_id = $run_id) AND runs.status <> 'failed'
),
means AS (
    SELECT
        run_id,
        target_id,
        any_value(target) AS target,
        count(*) AS n_rows,
        round(sum(self_repair), 4) / count(*) AS mean_self_repair,
        round(sum(direct_effect), 4) / count(*) AS mean_direct_effect,
        round(sum(removed_effect), 4) / count(*) AS mean_removed_effect,
        round(sum(logit_change), 4) / count(*) AS mean_logit_change
    FROM repair_rows
    INNER JOIN tokens USING (run_id, prompt_id, pos)
    WHERE run_id IN (SELECT run_id FROM chosen) AND ablation = $ablation AND layer = $layer AND head = $head
    GROUP BY run_id, target_id
    HAVING count(*) >= $at_least
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY mean_self_repair DESC, target_id) <= $at_most
)
SELECT
    run_id,
    model,
    target_id,
    target,
    n_rows,
    mean_self_repair,
    mean_direct_effect,
    mean_removed_effect,
    mean_logit_change
FROM means
INNER JOIN chosen USING (run_id)
ORDER BY run_id, mean_self_repair DESC, target_id
