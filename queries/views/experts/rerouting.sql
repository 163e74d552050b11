-- Re-routing: how often an MLP chooses other experts when a head is ablated, and how much of what it repairs is due to that.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer
-- Headline: label, mlp_layer, rerouted_share, replaced_share, mean_weight_distance, mean_change, mean_rerouted_change,
--   mean_kept_change, mean_shared_change, n_rows
-- Paper: none
--
-- Over the rows of the ablated head. The three parts of mean_change add up to it: experts that are chosen in one of the two
-- runs alone, experts that are chosen in both and add something else, and what is always on. The error of the share is
-- clustered by document, as those of edges are. Models without routed experts have no rows, and failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   rerouted_share DOUBLE: Share of rows in which other experts are chosen than in the clean run [ratio]
--   mean_replaced_experts DOUBLE: Mean over rows of the experts that are chosen in the clean run alone [experts]
--   replaced_share DOUBLE: These as a share of the chosen experts [ratio]
--   mean_weight_distance DOUBLE: Mean over rows of the total-variation distance of the routing weights: 0, they are the same,
--     to 1, no expert is chosen in both [ratio]
--   mean_change DOUBLE: Mean over rows of the change in the MLP's direct effect; > 0: it repairs, < 0: it adds to the damage
--     [logits]
--   mean_rerouted_change DOUBLE: The part of mean_change by experts in rows where they are chosen in one run alone [logits]
--   mean_kept_change DOUBLE: The part by experts in rows where they are chosen in both [logits]
--   mean_shared_change DOUBLE: The part that is always on: shared experts, and what else in the MLP does not depend on the
--     routing [logits]
--   n_clusters BIGINT: Documents with such rows, by which the interval is clustered [clusters]

WITH kept AS (
    SELECT run_id, ablation, population, layer, head, mlp_layer, sum(sum_kept_change) AS sum_kept_change
    FROM expert_totals
    GROUP BY run_id, ablation, population, layer, head, mlp_layer
),
shares AS (
    SELECT
        *,
        rerouted_rows / n_rows AS rerouted_share,
        ratio_se(rerouted_clusters, n_clusters) AS rerouted_share_se
    FROM routing_totals
    LEFT JOIN kept USING (run_id, ablation, population, layer, head, mlp_layer)
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
    n_experts,
    n_rows,
    rerouted_share,
    rerouted_share_se,
    greatest(0, rerouted_share - t_975(n_clusters - 1) * rerouted_share_se) AS rerouted_share_low,
    least(1, rerouted_share + t_975(n_clusters - 1) * rerouted_share_se) AS rerouted_share_high,
    sum_replaced_experts / n_rows AS mean_replaced_experts,
    sum_replaced_experts / nullif(sum_chosen_experts, 0) AS replaced_share,
    sum_weight_distance / n_rows AS mean_weight_distance,
    sum_change / n_rows AS mean_change,
    (sum_change - sum_shared_change - coalesce(sum_kept_change, 0)) / n_rows AS mean_rerouted_change,
    coalesce(sum_kept_change, 0) / n_rows AS mean_kept_change,
    sum_shared_change / n_rows AS mean_shared_change,
    n_clusters
FROM shares
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, population = 'all', population, layer, head, mlp_layer
