-- Building block: how often an MLP chooses other experts when a head is ablated, added up over all units of a run.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer
-- Paper: none
-- Kept: mart
--
-- MLPs with routed experts in the same layer as the head (unless blocks are parallel) and in later ones.
--
-- Columns:
--   population VARCHAR: Rows used of the ablated head: 'all' measured positions; 'top2', the 2 % with the highest clean
--     direct_effect
--   n_rows BIGINT: Rows of the population [rows]
--   rerouted_rows BIGINT: Rows in which other experts are chosen than in the clean run [rows]
--   sum_replaced_experts BIGINT: Sum over rows of the experts that are chosen in the clean run alone [experts]
--   sum_chosen_experts BIGINT: Sum over rows of the experts that are chosen in the clean run [experts]
--   sum_weight_distance DOUBLE: Sum over rows of half of the experts' |change in routing weight| [ratio]
--   sum_change DOUBLE: Sum over rows of the change in the MLP's direct effect [logits]
--   sum_shared_change DOUBLE: The part of it that is always on: shared experts, and what else in the MLP does not depend on
--     the routing [logits]
--   n_clusters BIGINT: Documents with such rows [clusters]
--   rerouted_clusters STRUCT(n DOUBLE, d DOUBLE, nn DOUBLE, nd DOUBLE, dd DOUBLE): What the error of the share of re-routed
--     rows is made of (ratio_se)

WITH of_documents AS (
    SELECT routing_sums.* REPLACE (coalesce(routing_sums.document_id, units.document_id) AS document_id)
    FROM routing_sums
    LEFT JOIN units USING (run_id, unit)
),
clusters AS (
    SELECT * EXCLUDE (unit, document_id)
    FROM of_documents
    WHERE document_id IS NULL
    UNION ALL BY NAME
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        mlp_layer,
        max(n_experts) AS n_experts,
        sum(n_rows) AS n_rows,
        sum(rerouted_rows) AS rerouted_rows,
        sum(replaced_experts) AS replaced_experts,
        sum(chosen_experts) AS chosen_experts,
        sum(weight_distance) AS weight_distance,
        sum(change) AS change,
        sum(shared_change) AS shared_change,
        1 AS n_clusters,
        CAST(sum(n_rows) AS DOUBLE) * sum(n_rows) AS squared_rows,
        CAST(sum(n_rows) AS DOUBLE) * sum(rerouted_rows) AS rows_by_rerouted,
        CAST(sum(rerouted_rows) AS DOUBLE) * sum(rerouted_rows) AS squared_cluster_rerouted
    FROM of_documents
    WHERE document_id IS NOT NULL
    GROUP BY run_id, ablation, population, layer, head, mlp_layer, document_id
)
SELECT
    run_id,
    ablation,
    CAST(population AS VARCHAR) AS population,
    layer,
    head,
    mlp_layer,
    max(n_experts) AS n_experts,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    CAST(sum(rerouted_rows) AS BIGINT) AS rerouted_rows,
    CAST(sum(replaced_experts) AS BIGINT) AS sum_replaced_experts,
    CAST(sum(chosen_experts) AS BIGINT) AS sum_chosen_experts,
    sum(weight_distance) AS sum_weight_distance,
    sum(change) AS sum_change,
    sum(shared_change) AS sum_shared_change,
    CAST(sum(n_clusters) AS BIGINT) AS n_clusters,
    {
        'n': sum(CAST(rerouted_rows AS DOUBLE)),
        'd': sum(CAST(n_rows AS DOUBLE)),
        'nn': sum(squared_cluster_rerouted),
        'nd': sum(rows_by_rerouted),
        'dd': sum(squared_rows)
    } AS rerouted_clusters
FROM clusters
GROUP BY run_id, ablation, population, layer, head, mlp_layer
ORDER BY run_id, ablation, population, layer, head, mlp_layer
