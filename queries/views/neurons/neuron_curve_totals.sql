-- Building block: how a head's top rows spread their changes over the neurons of an MLP, added up over all units of a run.
--
-- Grain: run_id, ablation, layer, head, mlp_layer, nth
-- Paper: section 5 (sparse neurons)
-- Kept: mart
--
-- Columns:
--   exceed_50 BIGINT: Rows whose nth largest |change| is above 50 % of the direct effect [rows]
--   exceed_10 BIGINT: Rows whose nth largest |change| is above 10 % of the direct effect [rows]
--   exceed_5 BIGINT: Rows whose nth largest |change| is above 5 % of the direct effect [rows]
--   exceed_2_5 BIGINT: Rows whose nth largest |change| is above 2.5 % of the direct effect [rows]
--   exceed_1 BIGINT: Rows whose nth largest |change| is above 1 % of the direct effect [rows]

SELECT
    run_id,
    ablation,
    layer,
    head,
    mlp_layer,
    nth,
    CAST(sum(exceed_50) AS BIGINT) AS exceed_50,
    CAST(sum(exceed_10) AS BIGINT) AS exceed_10,
    CAST(sum(exceed_5) AS BIGINT) AS exceed_5,
    CAST(sum(exceed_2_5) AS BIGINT) AS exceed_2_5,
    CAST(sum(exceed_1) AS BIGINT) AS exceed_1,
    sum(largest_changes) AS largest_changes
FROM neuron_curves
GROUP BY run_id, ablation, layer, head, mlp_layer, nth
ORDER BY run_id, ablation, layer, head, mlp_layer, nth
