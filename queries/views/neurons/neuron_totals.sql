-- Building block: what a head's ablation changes in an MLP, neuron by neuron, added up over all units of a run.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer
-- Paper: section 5 (sparse neurons and anti-erasure)
-- Kept: mart
--
-- Over the rows of a population, and over all neurons of the MLP.
--
-- Columns:
--   population VARCHAR: Rows used: 'top2', the head's 2 % with the highest clean direct_effect; 'top2_nobos', the same among
--     positions after the first one: none in a run that was measured before they were read
--   n_rows BIGINT: Rows of the population [rows]
--   sum_direct_effect DOUBLE: Sum of the head's direct effect [logits]
--   sum_change DOUBLE: Sum over rows and neurons of the change in direct effect [logits]
--   sum_absolute_change DOUBLE: Sum of its absolute value [logits]
--   sum_positive_change DOUBLE: Sum of the changes above 0 [logits]
--   sum_anti_erasure DOUBLE: Sum of the changes above 0 of neurons whose clean effect is below 0 [logits]
--   n_changed BIGINT: Rows in which a neuron changes by half of 1e-4 or more; NULL: not kept by the version that measured it
--     [rows]

SELECT
    run_id,
    ablation,
    CAST(population AS VARCHAR) AS population,
    layer,
    head,
    mlp_layer,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    sum(direct_effect) AS sum_direct_effect,
    sum(change) AS sum_change,
    sum(absolute_change) AS sum_absolute_change,
    sum(positive_change) AS sum_positive_change,
    sum(anti_erasure) AS sum_anti_erasure,
    CAST(CASE WHEN count(*) = count(n_changed) THEN sum(n_changed) END AS BIGINT) AS n_changed
FROM neuron_sums
GROUP BY run_id, ablation, population, layer, head, mlp_layer
ORDER BY run_id, ablation, population, layer, head, mlp_layer
