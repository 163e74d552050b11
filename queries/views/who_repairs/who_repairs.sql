-- What repairs an ablated head: the change in direct effect of each later head, and of the same layer's and later
-- MLPs.
--
-- Grain: run_id, ablation, population, layer, head, target_kind, target_layer, target_head
-- Headline: label, target_label, mean_change, share_of_repair, share_of_effect, target_rank, standard_error
-- Paper: section 3 (self-repair by later attention layers and MLPs)
--
-- Over the rows of the ablated head. The changes of all later heads add up to its mean_repair_attention, those of the
-- MLPs to its mean_repair_mlp; LayerNorm repair is in neither. The standard error assumes independent rows; rows of one
-- prompt are correlated, so that it is too small. Failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   target_label VARCHAR: Name of what changed: a head such as L10H7, or an MLP such as MLP11
--   standard_error DOUBLE: sd / sqrt(n_rows), assuming independent rows; NULL: one row [logits]
--   share_of_effect DOUBLE: mean_change as a share of the ablated head's mean_direct_effect; NULL where that is 0 [ratio]
--   share_of_repair DOUBLE: mean_change as a share of the ablated head's mean_self_repair, the final norm's part included;
--     NULL where that is 0 [ratio]
--   target_rank BIGINT: Place among all that could change, heads and MLPs, by mean_change; 1: repairs most; ties in the
--     order of target_layer, heads before MLPs
--   rank_in_kind BIGINT: Place among heads alone, or among MLPs alone, by mean_change; 1: repairs most; ties in the
--     order of target_layer, target_head
--   mean_direct_effect DOUBLE: Mean of the ablated head's direct_effect over these rows [logits]
--   mean_self_repair DOUBLE: Mean of the ablated head's self_repair over these rows [logits]

SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    head,
    label,
    target_kind,
    target_layer,
    target_head,
    CASE target_kind
        WHEN 'head' THEN head_label(target_layer, target_head)
        ELSE 'MLP' || target_layer
    END AS target_label,
    repair_edges.n_rows,
    mean_change,
    sd,
    sd / sqrt(repair_edges.n_rows) AS standard_error,
    mean_change / nullif(mean_direct_effect, 0) AS share_of_effect,
    mean_change / nullif(mean_self_repair, 0) AS share_of_repair,
    row_number() OVER (
        PARTITION BY run_id, ablation, population, layer, head
        ORDER BY mean_change DESC, target_layer, target_kind, target_head
    ) AS target_rank,
    row_number() OVER (
        PARTITION BY run_id, ablation, population, layer, head, target_kind
        ORDER BY mean_change DESC, target_layer, target_head
    ) AS rank_in_kind,
    mean_direct_effect,
    mean_self_repair
FROM repair_edges
INNER JOIN head_repair USING (run_id, ablation, population, layer, head)
ORDER BY run_id, ablation, population = 'all', population, layer, head, target_rank
