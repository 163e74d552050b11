-- How few neurons repair a head: the largest changes of a row in an MLP, in order, against the direct effect.
--
-- Grain: run_id, ablation, layer, head, mlp_layer, nth
-- Headline: label, mlp_layer, nth, cumulative_share, mean_cumulative_change, n_rows
-- Paper: section 5 (sparse neurons)
--
-- Over the rows of the ablated head's top 2 % by clean direct effect. In each row the neurons of the MLP are put in
-- order by the size of their change in direct effect, so that the nth is another neuron from row to row (see
-- neuron_consistency). Failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   n_rows BIGINT: Rows of the head's top 2 % [rows]
--   exceed_50_share DOUBLE: Rows whose nth largest |change| is above 50 % of the head's direct effect, as a share of
--     n_rows [ratio]
--   exceed_10_share DOUBLE: Rows whose nth largest |change| is above 10 % of the head's direct effect, as a share of
--     n_rows [ratio]
--   exceed_5_share DOUBLE: Rows whose nth largest |change| is above 5 % of the head's direct effect, as a share of n_rows
--     [ratio]
--   exceed_2_5_share DOUBLE: Rows whose nth largest |change| is above 2.5 % of the head's direct effect, as a share of
--     n_rows [ratio]
--   exceed_1_share DOUBLE: Rows whose nth largest |change| is above 1 % of the head's direct effect, as a share of n_rows
--     [ratio]
--   mean_nth_change DOUBLE: Mean over rows of the nth largest |change| [logits]
--   mean_cumulative_change DOUBLE: Mean over rows of the sum of the n largest |change| [logits]
--   cumulative_share DOUBLE: Sum of the n largest |change| as a share of the |change| of all neurons, over all rows; NULL
--     where nothing changes [ratio]

SELECT
    run_id,
    models.name AS model,
    ablation,
    layer,
    head,
    head_label(layer, head) AS label,
    mlp_layer,
    nth,
    n_rows,
    exceed_50 / n_rows AS exceed_50_share,
    exceed_10 / n_rows AS exceed_10_share,
    exceed_5 / n_rows AS exceed_5_share,
    exceed_2_5 / n_rows AS exceed_2_5_share,
    exceed_1 / n_rows AS exceed_1_share,
    largest_changes / n_rows AS mean_nth_change,
    sum(largest_changes) OVER ns / n_rows AS mean_cumulative_change,
    sum(largest_changes) OVER ns / nullif(sum_absolute_change, 0) AS cumulative_share
FROM neuron_curve_totals
INNER JOIN neuron_totals USING (run_id, ablation, layer, head, mlp_layer)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
WINDOW ns AS (
    PARTITION BY run_id, ablation, layer, head, mlp_layer ORDER BY nth ROWS UNBOUNDED PRECEDING
)
ORDER BY run_id, ablation, layer, head, mlp_layer, nth
