-- Building block: how a head's top rows spread their changes over the neurons of an MLP, added up over all units of a run.
--
-- Grain: run_id, ablation, population, layer, head, mlp_layer, nth
-- Paper: section 5 (sparse neurons)
-- Kept: mart
--
-- Columns:
--   population VARCHAR: Rows used: 'top2', the head's 2 % with the highest clean direct_effect; 'top2_nobos', the same among
--     positions after the first one: none in a run that was measured before they were read
--   exceed_50 BIGINT: Rows whose nth largest |change| is above 50 % of the direct effect [rows]
--   exceed_10 BIGINT: Rows whose nth largest |change| is above 10 % of the direct effect [rows]
--   exceed_5 BIGINT: Rows whose nth largest |change| is above 5 % of the direct effect [rows]
--   exceed_2_5 BIGINT: Rows whose nth largest |change| is above 2.5 % of the direct effect [rows]
--   exceed_1 BIGINT: Rows whose nth largest |change| is above 1 % of the direct effect [rows]
--   signed_exceed_50 BIGINT: Rows whose nth highest change, with its sign, is above 50 % of the direct effect; NULL: not
--     kept by the version that measured it [rows]
--   signed_exceed_10 BIGINT: Rows whose nth highest change, with its sign, is above 10 % of the direct effect; NULL as
--     signed_exceed_50 [rows]
--   signed_exceed_5 BIGINT: Rows whose nth highest change, with its sign, is above 5 % of the direct effect; NULL as
--     signed_exceed_50 [rows]
--   signed_exceed_2_5 BIGINT: Rows whose nth highest change, with its sign, is above 2.5 % of the direct effect; NULL as
--     signed_exceed_50 [rows]
--   signed_exceed_1 BIGINT: Rows whose nth highest change, with its sign, is above 1 % of the direct effect; NULL as
--     signed_exceed_50 [rows]

SELECT
    run_id,
    ablation,
    CAST(population AS VARCHAR) AS population,
    layer,
    head,
    mlp_layer,
    nth,
    CAST(sum(exceed_50) AS BIGINT) AS exceed_50,
    CAST(sum(exceed_10) AS BIGINT) AS exceed_10,
    CAST(sum(exceed_5) AS BIGINT) AS exceed_5,
    CAST(sum(exceed_2_5) AS BIGINT) AS exceed_2_5,
    CAST(sum(exceed_1) AS BIGINT) AS exceed_1,
    sum(largest_changes) AS largest_changes,
    CAST(CASE WHEN count(*) = count(signed_exceed_50) THEN sum(signed_exceed_50) END AS BIGINT) AS signed_exceed_50,
    CAST(CASE WHEN count(*) = count(signed_exceed_10) THEN sum(signed_exceed_10) END AS BIGINT) AS signed_exceed_10,
    CAST(CASE WHEN count(*) = count(signed_exceed_5) THEN sum(signed_exceed_5) END AS BIGINT) AS signed_exceed_5,
    CAST(CASE WHEN count(*) = count(signed_exceed_2_5) THEN sum(signed_exceed_2_5) END AS BIGINT) AS signed_exceed_2_5,
    CAST(CASE WHEN count(*) = count(signed_exceed_1) THEN sum(signed_exceed_1) END AS BIGINT) AS signed_exceed_1,
    CASE WHEN count(*) = count(largest_repairs) THEN sum(largest_repairs) END AS largest_repairs,
    CASE WHEN count(*) = count(change_shares) THEN sum(change_shares) END AS change_shares,
    CASE WHEN count(*) = count(repair_shares) THEN sum(repair_shares) END AS repair_shares
FROM neuron_curves
GROUP BY run_id, ablation, population, layer, head, mlp_layer, nth
ORDER BY run_id, ablation, population, layer, head, mlp_layer, nth
