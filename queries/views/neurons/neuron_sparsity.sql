-- How few neurons repair a head: the largest changes of a row in an MLP, in order, against the direct effect.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer, nth
-- Headline: label, mlp_layer, nth, cumulative_share, cumulative_repair_share, exceed_5_share, signed_exceed_5_share, n_rows
-- Paper: section 5 (sparse neurons)
--
-- Over the rows of the ablated head's top 2 % by clean direct effect, with position 0 or without. In each row the neurons
-- of the MLP are put in order by the size of their change in direct effect, so that the nth is another neuron from row to
-- row (see neuron_consistency).
--
-- The signed_ columns, mean_nth_repair and cumulative_repair_share are in the paper's order: neurons by their change with its
-- sign, the one that repairs most first. The others are in the order of |change|. On the bundled model the tenth neuron exceeds 5 %
-- of the direct effect in 31 % of rows in the one order and in 47 % in the other. Failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   n_rows BIGINT: Rows of the population [rows]
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
--   signed_exceed_50_share DOUBLE: Rows whose nth highest change, with its sign, is above 50 % of the head's direct effect, as
--     a share of n_rows; NULL: not kept by the version that measured it [ratio]
--   signed_exceed_10_share DOUBLE: Rows whose nth highest change, with its sign, is above 10 % of the head's direct effect,
--     as a share of n_rows; NULL as signed_exceed_50_share [ratio]
--   signed_exceed_5_share DOUBLE: Rows whose nth highest change, with its sign, is above 5 % of the head's direct effect,
--     as a share of n_rows; NULL as signed_exceed_50_share [ratio]
--   signed_exceed_2_5_share DOUBLE: Rows whose nth highest change, with its sign, is above 2.5 % of the head's direct effect,
--     as a share of n_rows; NULL as signed_exceed_50_share [ratio]
--   signed_exceed_1_share DOUBLE: Rows whose nth highest change, with its sign, is above 1 % of the head's direct effect,
--     as a share of n_rows; NULL as signed_exceed_50_share [ratio]
--   mean_nth_repair DOUBLE: Mean over rows of the nth highest change, with its sign; NULL as signed_exceed_50_share [logits]
--   cumulative_change_share DOUBLE: Mean over the rows in which a neuron changes of the n largest |change| as a share of the
--     |change| of the row; NULL as signed_exceed_50_share, or nothing changes [ratio]
--   cumulative_repair_share DOUBLE: Mean over the rows in which a neuron changes of the n highest changes above 0 as a share
--     of all changes above 0 of the row; NULL as signed_exceed_50_share, or nothing changes [ratio]

SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
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
    sum(largest_changes) OVER ns / nullif(sum_absolute_change, 0) AS cumulative_share,
    signed_exceed_50 / n_rows AS signed_exceed_50_share,
    signed_exceed_10 / n_rows AS signed_exceed_10_share,
    signed_exceed_5 / n_rows AS signed_exceed_5_share,
    signed_exceed_2_5 / n_rows AS signed_exceed_2_5_share,
    signed_exceed_1 / n_rows AS signed_exceed_1_share,
    largest_repairs / n_rows AS mean_nth_repair,
    sum(change_shares) OVER ns / nullif(n_changed, 0) AS cumulative_change_share,
    sum(repair_shares) OVER ns / nullif(n_changed, 0) AS cumulative_repair_share
FROM neuron_curve_totals
INNER JOIN neuron_totals USING (run_id, ablation, population, layer, head, mlp_layer)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed'
WINDOW ns AS (
    PARTITION BY run_id, ablation, population, layer, head, mlp_layer ORDER BY nth ROWS UNBOUNDED PRECEDING
)
ORDER BY run_id, ablation, population, layer, head, mlp_layer, nth
