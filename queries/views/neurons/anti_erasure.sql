-- Which neurons repair a head: how often each is among the 16 that change most, how often by anti-erasure, and by how
-- much.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer, neuron
-- Headline: label, mlp_layer, neuron, n_anti_erasure, mean_change, n_rows, share_of_mlp
-- Paper: section 5 (anti-erasure)
--
-- Over the rows of the ablated head's top 2 % by clean direct effect, with position 0 or without. A neuron counts in the
-- rows in which it is among the 16 of its MLP that change most; a neuron that never is has no row here. Anti-erasure: it
-- writes against the correct token when nothing is ablated (clean_effect < 0) and less so with the head ablated (change >
-- 0). Failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   n_rows BIGINT: Rows of the population [rows]
--   n_stored BIGINT: Of these, rows in which the neuron is among the 16: its means are over these [rows]
--   n_first BIGINT: Of these, rows in which it is the one that changes most [rows]
--   n_anti_erasure BIGINT: Of the n_stored, rows in which it erases less (anti-erasure) [rows]
--   mean_clean_effect DOUBLE: Mean over the n_stored rows of what it writes towards the target with nothing ablated; < 0: it
--     erases [logits]
--   mean_ablated_effect DOUBLE: Mean over the n_stored rows of what it writes towards the target with the head ablated; <
--     0: it erases [logits]
--   mean_change DOUBLE: mean_ablated_effect - mean_clean_effect; > 0: it repairs [logits]
--   share_of_mlp DOUBLE: Sum of its changes in the n_stored rows as a share of the change of the whole MLP in all
--     rows; outside 0..1 where neurons work against each other, and unreliable where the MLP's own change is near 0;
--     NULL where that is 0 [ratio]

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    layer,
    head,
    head_label(layer, head) AS label,
    mlp_layer,
    neuron,
    n_rows,
    n_stored,
    n_first,
    n_anti_erasure,
    sum_clean_effect / n_stored AS mean_clean_effect,
    sum_ablated_effect / n_stored AS mean_ablated_effect,
    neuron_uses.sum_change / n_stored AS mean_change,
    neuron_uses.sum_change / nullif(neuron_totals.sum_change, 0) AS share_of_mlp
FROM neuron_uses
INNER JOIN neuron_totals USING (run_id, ablation, population, layer, head, mlp_layer)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
