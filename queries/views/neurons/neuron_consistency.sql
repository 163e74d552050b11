-- Whether the same few neurons repair a head in every row, or different ones from row to row.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer
-- Headline: label, mlp_layer, top_neuron, top_neuron_share, change_share_10, half_overlap, n_rows
-- Paper: section 5 (sparse neurons)
--
-- Over the rows of the ablated head's top 2 % by clean direct effect, with position 0 or without, in which a neuron changes
-- (under resample ablation none does at the first position), and of each row the 16 neurons of the MLP that change most. The
-- most frequent neurons are those that are among the 16 in most rows; ties by the larger sum of |change|, then by number.
-- half_overlap compares two halves of the prompts: neurons drawn by chance from n would overlap by about 10 / n. Failed
-- runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6

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
    neurons_first,
    neurons_first_4,
    neurons_first_16,
    top_neuron,
    top_neuron_share,
    change_share_10,
    half_overlap
FROM neuron_repeats
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
ORDER BY run_id, ablation, population, layer, head, mlp_layer
