-- How an MLP's neurons respond to an ablated head: how much they change, in which direction, and how much is
-- anti-erasure.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer
-- Headline: label, mlp_layer, mean_change, share_of_effect, anti_erasure_share, neurons_for_half, n_rows
-- Paper: section 5 (sparse neurons and anti-erasure)
--
-- Over the rows of the ablated head's top 2 % by clean direct effect, with position 0 or without, and over all neurons of
-- the MLP. Anti-erasure is a change above 0 of a neuron that writes against the correct token when nothing is ablated: it
-- suppresses less. The squares of single changes are not stored; neurons_for_half says how few neurons matter. Failed runs
-- are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   n_rows BIGINT: Rows of the population [rows]
--   mean_direct_effect DOUBLE: Mean over rows of the head's direct effect [logits]
--   mean_change DOUBLE: Mean over rows of the change of all neurons together: what this MLP repairs; > 0: it
--     compensates, < 0: it adds to the damage [logits]
--   mean_absolute_change DOUBLE: Mean over rows of the sum of the neurons' |change| [logits]
--   mean_positive_change DOUBLE: Mean over rows of the sum of the changes above 0 [logits]
--   mean_anti_erasure DOUBLE: Mean over rows of the sum of the anti-erasing changes [logits]
--   share_of_effect DOUBLE: Sum of change / sum of the head's direct effect; NULL where that is 0 [ratio]
--   positive_share DOUBLE: Changes above 0 as a share of |change|; 0.5: they cancel, 1: all neurons repair; NULL where
--     nothing changes [ratio]
--   anti_erasure_share DOUBLE: Anti-erasure as a share of the changes above 0; NULL where there are none [ratio]
--   neurons_for_half SMALLINT: Neurons that hold 50 % of the change: the fewest n for which the n largest changes of
--     each row sum to half of the |change| of all rows; NULL: more than neuron_sparsity counts, or nothing changes
--     [neurons]

WITH halves AS (
    SELECT run_id, ablation, population, layer, head, mlp_layer, min(nth) AS neurons_for_half
    FROM neuron_sparsity
    WHERE cumulative_share >= 0.5
    GROUP BY run_id, ablation, population, layer, head, mlp_layer
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
    n_rows,
    n_changed,
    sum_direct_effect / n_rows AS mean_direct_effect,
    sum_change / n_rows AS mean_change,
    sum_absolute_change / n_rows AS mean_absolute_change,
    sum_positive_change / n_rows AS mean_positive_change,
    sum_anti_erasure / n_rows AS mean_anti_erasure,
    sum_change / nullif(sum_direct_effect, 0) AS share_of_effect,
    sum_positive_change / nullif(sum_absolute_change, 0) AS positive_share,
    sum_anti_erasure / nullif(sum_positive_change, 0) AS anti_erasure_share,
    neurons_for_half
FROM neuron_totals
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
LEFT JOIN halves USING (run_id, ablation, population, layer, head, mlp_layer)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, population, layer, head, mlp_layer
