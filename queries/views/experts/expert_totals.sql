-- Building block: what each routed expert of an MLP changes when a head is ablated, added up over all units of a run.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer, expert
-- Paper: none
-- Kept: mart
--
-- Experts that are never chosen have no row here; expert_repair has them.
--
-- Columns:
--   population VARCHAR: Rows used of the ablated head: 'all' measured positions; 'top2', the 2 % with the highest clean
--     direct_effect
--   clean_rows BIGINT: Rows in which it is chosen in the clean run [rows]
--   ablated_rows BIGINT: Rows in which it is chosen with the head ablated [rows]
--   sum_change DOUBLE: Sum over rows of the change in its direct effect [logits]
--   sum_kept_change DOUBLE: The same over the rows in which it is chosen in both [logits]

SELECT
    run_id,
    ablation,
    CAST(population AS VARCHAR) AS population,
    layer,
    head,
    mlp_layer,
    expert,
    CAST(sum(clean_rows) AS BIGINT) AS clean_rows,
    CAST(sum(ablated_rows) AS BIGINT) AS ablated_rows,
    sum(change) AS sum_change,
    sum(kept_change) AS sum_kept_change
FROM expert_sums
GROUP BY run_id, ablation, population, layer, head, mlp_layer, expert
ORDER BY run_id, ablation, population, layer, head, mlp_layer, expert
