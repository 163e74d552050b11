-- What repairs an ablated head: the change in direct effect of each later head, and of the same layer's and later
-- MLPs.
--
-- Grain: run_id, ablation, population, layer, head, target_kind, target_layer, target_head
-- Headline: label, target_label, mean_change, mean_change_low, mean_change_high, verdict, share_of_repair,
--   share_of_effect, target_rank, n_clusters
-- Paper: section 3 (self-repair by later attention layers and MLPs)
--
-- Over the rows of the ablated head. The changes of all later heads add up to its mean_repair_attention, those of the
-- MLPs to its mean_repair_mlp; LayerNorm and post-norm repair are in neither. Errors are clustered by document (repair_edges).
--
-- A verdict has a margin, a hundredth of the ablated head's |mean_removed_effect|: an edge repairs where the whole interval of
-- its mean_change lies above the margin, adds to the damage where it lies below minus that, and does neither where it lies
-- between. A head is self-repaired from a tenth of its removed effect (output_change), and an edge counts from a tenth of that.
-- Intervals hold at 95 % for all edges of a run, ablation and population together (Bonferroni). With fewer than 12 clusters, or
-- an interval wider than the margin, there is not enough data. Intervals in mean_change_low and mean_change_high are of one edge
-- alone. Failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   target_label VARCHAR: Name of what changed: a head such as L10H7, or an MLP such as MLP11
--   mean_change_low DOUBLE: Lower end of the 95 % interval of mean_change, clustered by document; NULL: one cluster [logits]
--   mean_change_high DOUBLE: Upper end of that interval [logits]
--   margin DOUBLE: Change that counts: a hundredth of the ablated head's |mean_removed_effect| [logits]
--   n_tested BIGINT: Edges of the run, ablation and population, for which the verdict's intervals hold together [edges]
--   verdict VARCHAR: 'repairs', 'adds to the damage' or 'neither', by the interval of mean_change and the margin; 'unclear': the
--     interval contains one end of the margin; 'not enough data': fewer than 12 clusters, or an interval that is wider than the
--     margin to either side
--   share_of_effect DOUBLE: mean_change as a share of the ablated head's mean_direct_effect; NULL where that is 0 [ratio]
--   share_of_repair DOUBLE: mean_change as a share of the ablated head's mean_self_repair, the final norm's part included;
--     NULL where that is 0 [ratio]
--   target_rank BIGINT: Place among all that could change, heads and MLPs, by mean_change; 1: repairs most; ties in the
--     order of target_layer, heads before MLPs
--   rank_in_kind BIGINT: Place among heads alone, or among MLPs alone, by mean_change; 1: repairs most; ties in the
--     order of target_layer, target_head
--   mean_direct_effect DOUBLE: Mean of the ablated head's direct_effect over these rows [logits]
--   mean_self_repair DOUBLE: Mean of the ablated head's self_repair over these rows [logits]

WITH edges AS (
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
        repair_edges.n_rows,
        repair_edges.n_clusters,
        mean_change,
        sd,
        standard_error,
        mean_direct_effect,
        mean_self_repair,
        abs(mean_removed_effect) / 100 AS margin,
        count(*) OVER (PARTITION BY run_id, ablation, population) AS n_tested,
        t_of_many(repair_edges.n_clusters - 1, n_tested) * standard_error AS half_width
    FROM repair_edges
    INNER JOIN head_repair USING (run_id, ablation, population, layer, head)
)
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
    n_rows,
    n_clusters,
    mean_change,
    sd,
    standard_error,
    mean_change - t_975(n_clusters - 1) * standard_error AS mean_change_low,
    mean_change + t_975(n_clusters - 1) * standard_error AS mean_change_high,
    margin,
    n_tested,
    CASE
        WHEN n_clusters < 12 THEN 'not enough data'
        WHEN mean_change - half_width > margin THEN 'repairs'
        WHEN mean_change + half_width < -margin THEN 'adds to the damage'
        WHEN abs(mean_change) + half_width <= margin THEN 'neither'
        WHEN half_width <= margin THEN 'unclear'
        ELSE 'not enough data'
    END AS verdict,
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
FROM edges
ORDER BY run_id, ablation, population = 'all', population, layer, head, target_rank
