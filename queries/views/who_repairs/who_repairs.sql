-- What repairs an ablated head: the change in direct effect of each later head, and of the same layer's and later
-- MLPs.
--
-- Grain: run_id, ablation, population, layer, head, target_kind, target_layer, target_head
-- Headline: label, target_label, mean_change, verdict, share_of_repair, share_of_effect, target_rank, standard_error,
--   n_clusters
-- Paper: section 3 (self-repair by later attention layers and MLPs)
--
-- Over the rows of the ablated head. The changes of all later heads add up to its mean_repair_attention, those of the
-- MLPs to its mean_repair_mlp; LayerNorm and post-norm repair are in neither. Errors are clustered by document (repair_edges).
--
-- A verdict allows for how many edges are tested: all of a run, ablation and population, by Benjamini and Hochberg. Of
-- those that are said to repair, at most 2.5 % are expected not to, and of those said to add to the damage likewise. With
-- fewer than 12 clusters there is not enough data. Intervals of mean_change are those of one edge alone. Failed runs are
-- left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   target_label VARCHAR: Name of what changed: a head such as L10H7, or an MLP such as MLP11
--   mean_change_low DOUBLE: Lower end of the 95 % interval of mean_change, clustered by document; NULL: one cluster [logits]
--   mean_change_high DOUBLE: Upper end of that interval [logits]
--   n_tested BIGINT: Edges of the run, ablation and population that are tested [edges]
--   verdict VARCHAR: 'repairs' or 'adds to the damage' where mean_change is told from 0 among n_tested edges, else 'unclear'
--     or 'not enough data'
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
        normal_of_t(mean_change / (standard_error + 1e-12), repair_edges.n_clusters - 1) AS z,
        mean_direct_effect,
        mean_self_repair
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
    coalesce(n_tested, 0) AS n_tested,
    CASE
        WHEN n_clusters < 12 THEN 'not enough data'
        WHEN z >= repairs_from THEN 'repairs'
        WHEN z <= damages_to THEN 'adds to the damage'
        ELSE 'unclear'
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
LEFT JOIN edge_thresholds USING (run_id, ablation, population)
ORDER BY run_id, ablation, population = 'all', population, layer, head, target_rank
