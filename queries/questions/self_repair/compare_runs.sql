-- Do two runs agree? Each head's mean self-repair in both, the largest difference first.
--
-- Grain: run_id, other_run_id, layer, head
-- Paper: none
--
-- The runs can be of two models of one shape, two sets of prompts, or two devices; run_health says in what they differ.
-- Standard errors assume independent runs; on the same prompts they are too large.
--
-- Parameters:
--   run_id INTEGER: Number of the first run (see the list of runs)
--   other_run_id INTEGER: Number of the run to compare it with
--   ablation, population, at_most
--
-- Columns:
--   other_run_id INTEGER: The run that it is compared with: runs.run_id
--   other_model VARCHAR: Model of the run that it is compared with: models.name
--   other_mean_self_repair DOUBLE: mean_self_repair in the other run [logits]
--   difference DOUBLE: mean_self_repair - other_mean_self_repair [logits]
--   difference_in_se DOUBLE: The difference divided by its standard error, the root of both runs' squared; NULL: a
--     run of a single prompt has none [standard errors]
--   other_mean_direct_effect DOUBLE: mean_direct_effect in the other run [logits]

SELECT
    one.run_id,
    one.model,
    other.run_id AS other_run_id,
    other.model AS other_model,
    one.label,
    one.mean_self_repair,
    other.mean_self_repair AS other_mean_self_repair,
    one.mean_self_repair - other.mean_self_repair AS difference,
    difference / nullif(sqrt(one.mean_self_repair_se ** 2 + other.mean_self_repair_se ** 2), 0) AS difference_in_se,
    one.mean_direct_effect,
    other.mean_direct_effect AS other_mean_direct_effect,
    one.layer,
    one.head
FROM head_repair AS one
INNER JOIN head_repair AS other USING (ablation, population, layer, head)
WHERE
    one.run_id = $run_id
    AND other.run_id = $other_run_id
    AND ablation = $ablation
    AND population = coalesce($population, default_population(one.run_id))
ORDER BY abs(difference) DESC, one.layer, one.head
LIMIT $at_most
