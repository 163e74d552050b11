-- Building block: how the ablation of a head changes the direct effect of each later head, and of the same layer's and
-- later MLPs.
--
-- Grain: run_id, ablation, population, layer, head, target_kind, target_layer, target_head
-- Paper: section 3 (self-repair by later attention layers and MLPs)
-- Kept: mart
--
-- Changes are of the target's direct effect, at the clean scale. Those of all later heads add up to the ablated head's
-- mean_repair_attention, those of the MLPs to its mean_repair_mlp. In parallel blocks a head does not change the MLP
-- of its own layer.
--
-- Columns:
--   population VARCHAR: Rows used of the ablated head: 'all' measured positions; 'top2', the 2 % with the highest clean
--     direct_effect
--   mean_change DOUBLE: Mean over rows of the change in the target's direct effect; > 0: it repairs, < 0: it adds to the
--     damage [logits]
--   sd DOUBLE: Standard deviation of that change over the rows, divided by rows - 1; NULL: one row [logits]
--   n_rows BIGINT: Rows that the numbers cover [rows]

WITH sums AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        target_kind,
        target_layer,
        target_head,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        sum(change) AS change,
        sum(squared_change) AS squared_change
    FROM edge_sums
    GROUP BY run_id, ablation, population, layer, head, target_kind, target_layer, target_head
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    CAST(population AS VARCHAR) AS population,
    target_kind,
    target_layer,
    target_head,
    change / n_rows AS mean_change,
    sqrt(greatest(0, squared_change - change * change / n_rows) / nullif(n_rows - 1, 0)) AS sd,
    n_rows
FROM sums
ORDER BY run_id, ablation, population, layer, head, target_kind, target_layer, target_head
