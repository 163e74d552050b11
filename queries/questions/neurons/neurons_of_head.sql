-- Which neurons repair one head? Those of each MLP with the largest mean change, and how often each is among the 16
-- that change most.
--
-- Grain: run_id, mlp_layer, neuron
-- Paper: section 5 (sparse neurons and anti-erasure)
--
-- Neurons with the largest sum of changes come first, whichever way these go. Runs that did not measure neurons have no
-- rows.
--
-- Parameters:
--   model, run_id, ablation
--   population top2|top2_nobos = top2: Rows used: top2, each head's top 2 % by direct effect; top2_nobos, the same without
--     first positions
--   layer, head
--   mlp_layer INTEGER = NULL: Layer of the MLP, from 0; NULL: all that were measured
--   at_most
--
-- Columns:
--   mean_change_of_row DOUBLE: Mean over all n_rows of its change in direct effect, those in which it is not among the 16
--     counting 0; > 0: it repairs [logits]

SELECT
    run_id,
    model,
    label,
    mlp_layer,
    neuron,
    mean_change * n_stored / n_rows AS mean_change_of_row,
    share_of_mlp,
    n_stored,
    n_first,
    n_anti_erasure,
    n_rows,
    mean_clean_effect,
    mean_ablated_effect,
    mean_change
FROM anti_erasure
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
    AND layer = $layer
    AND head = $head
    AND ($mlp_layer IS NULL OR mlp_layer = $mlp_layer)
QUALIFY
    row_number() OVER (
        PARTITION BY run_id ORDER BY round(abs(mean_change) * n_stored, 4) DESC, mlp_layer, neuron
    ) <= $at_most
ORDER BY run_id, round(abs(mean_change) * n_stored, 4) DESC, mlp_layer, neuron
