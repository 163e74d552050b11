-- Building block: the rows of the documents that intervals of finer statistics are estimated from (sampled_clusters).
--
-- Grain: run_id, ablation, layer, head, prompt_id, pos
-- Paper: none
--
-- Not kept: to read these rows again takes a fifth of the time that it takes to store them.
--
-- Columns:
--   self_repair FLOAT: Self-repair: change in logit + drop in direct effect (repair_rows); > 0: the rest of the model
--     compensated, < 0: it added to the damage [logits]

WITH sampled_prompts AS MATERIALIZED (
    SELECT run_id, prompt_id, cluster_id
    FROM prompt_clusters
    SEMI JOIN sampled_clusters USING (run_id, cluster_id)
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    prompt_id,
    pos,
    cluster_id,
    direct_effect,
    logit_change,
    in_steps(logit_change - (ablated_direct_effect - direct_effect)) AS self_repair
FROM measurements
INNER JOIN sampled_prompts USING (run_id, prompt_id)
