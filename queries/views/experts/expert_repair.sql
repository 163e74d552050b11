-- What each routed expert of an MLP adds to its repair of an ablated head, and how often it is chosen.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer, expert
-- Headline: label, mlp_layer, expert, mean_change, mean_rerouted_change, mean_kept_change, share_of_mlp, clean_rows,
--   ablated_rows, n_rows
-- Paper: none
--
-- Over all rows of the population, those in which the expert is not chosen counting 0: the means of an MLP's experts and its
-- mean_shared_change (rerouting) add up to its mean_change. An expert that is chosen in no row has 0 rows and no means. Failed
-- runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   expert SMALLINT: Index of the expert in its MLP, from 0
--   n_rows BIGINT: Rows of the population [rows]
--   clean_rows BIGINT: Rows in which it is chosen in the clean run; 0 in both: never chosen [rows]
--   ablated_rows BIGINT: Rows in which it is chosen with the head ablated [rows]
--   mean_change DOUBLE: Mean over rows of the change in its direct effect; > 0: it repairs, < 0: it adds to the damage; NULL:
--     never chosen [logits]
--   mean_rerouted_change DOUBLE: The part of mean_change of rows in which it is chosen in one of the two runs alone [logits]
--   mean_kept_change DOUBLE: The part of rows in which it is chosen in both [logits]
--   share_of_mlp DOUBLE: mean_change as a share of the MLP's; NULL where that is 0 [ratio]
--   expert_rank BIGINT: Place among the MLP's experts by mean_change; 1: repairs most; those that are never chosen last, ties
--     in the order of expert

WITH each AS (
    SELECT
        totals.* EXCLUDE (rerouted_clusters, n_clusters),
        CAST(unnest(range(n_experts)) AS SMALLINT) AS expert
    FROM routing_totals AS totals
),
means AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        mlp_layer,
        expert,
        n_rows,
        coalesce(clean_rows, 0) AS clean_rows,
        coalesce(ablated_rows, 0) AS ablated_rows,
        found.sum_change / n_rows AS mean_change,
        found.sum_kept_change / n_rows AS mean_kept_change,
        found.sum_change / nullif(each.sum_change, 0) AS share_of_mlp
    FROM each
    LEFT JOIN expert_totals AS found USING (run_id, ablation, population, layer, head, mlp_layer, expert)
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    layer,
    head,
    head_label(layer, head) AS label,
    mlp_layer,
    expert,
    n_rows,
    clean_rows,
    ablated_rows,
    mean_change,
    mean_change - mean_kept_change AS mean_rerouted_change,
    mean_kept_change,
    share_of_mlp,
    row_number() OVER (
        PARTITION BY run_id, ablation, population, layer, head, mlp_layer
        ORDER BY mean_change DESC NULLS LAST, expert
    ) AS expert_rank
FROM means
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, layer, head, mlp_layer, expert
