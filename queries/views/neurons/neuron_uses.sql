-- Building block: how often each neuron is among a row's largest changes, for each ablated head and MLP, and what it
-- does there.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer, neuron
-- Paper: section 5 (sparse neurons and anti-erasure)
-- Kept: mart
--
-- Over the stored rows of neuron_changes: of each row of a population, the 16 neurons that change most. Where a stored
-- change is 0, it is nobody's: versions before 0.2 stored 16 neurons of rows in which none changed, too. Stored in the
-- order of the heads, so that one head's rows are found without reading the others.
--
-- Columns:
--   population VARCHAR: Rows used: 'top2', the head's 2 % with the highest clean direct_effect; 'top2_nobos', the same among
--     positions after the first one: none in a run that was measured before they were read
--   n_stored BIGINT: Rows in which the neuron is among the 16 [rows]
--   n_first BIGINT: Rows in which it is the one that changes most [rows]
--   n_first_4 BIGINT: Rows in which it is among the four that change most [rows]
--   n_anti_erasure BIGINT: Rows in which it is among the 16 and erases less: change > 0, clean_effect < 0 [rows]
--   n_even BIGINT: Rows in which it is among the 16, of prompts with an even prompt_id [rows]
--   sum_clean_effect DOUBLE: Sum of clean_effect over its n_stored rows [logits]
--   sum_ablated_effect DOUBLE: Sum of ablated_effect over its n_stored rows [logits]
--   sum_change DOUBLE: Sum of ablated_effect - clean_effect over its n_stored rows [logits]
--   sum_absolute_change DOUBLE: Sum of |ablated_effect - clean_effect| over its n_stored rows [logits]
--   sum_even_absolute_change DOUBLE: Sum of |ablated_effect - clean_effect| over its n_even rows [logits]

WITH changes AS (
    SELECT
        *,
        in_steps(ablated_effect - clean_effect) AS change
    FROM neuron_changes
),
members AS (
    SELECT
        'top2' AS population,
        *
    FROM changes
    WHERE in_top2
    UNION ALL
    SELECT
        'top2_nobos' AS population,
        *
    FROM changes
    WHERE in_top2_nobos
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    mlp_layer,
    neuron,
    count(*) AS n_stored,
    count(*) FILTER (rank = 1) AS n_first,
    count(*) FILTER (rank <= 4) AS n_first_4,
    count(*) FILTER (change > 0 AND clean_effect < 0) AS n_anti_erasure,
    count(*) FILTER (prompt_id % 2 = 0) AS n_even,
    round(sum(clean_effect), 4) AS sum_clean_effect,
    round(sum(ablated_effect), 4) AS sum_ablated_effect,
    round(sum(change), 4) AS sum_change,
    round(sum(abs(change)), 4) AS sum_absolute_change,
    round(coalesce(sum(abs(change)) FILTER (prompt_id % 2 = 0), 0), 4) AS sum_even_absolute_change
FROM members
WHERE change <> 0
GROUP BY run_id, ablation, population, layer, head, mlp_layer, neuron
ORDER BY run_id, ablation, population, layer, head, mlp_layer, neuron
