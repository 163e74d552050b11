-- Building block: how the ablation of a head changes the direct effect of each later head, and of the same layer's and
-- later MLPs.
--
-- Grain: run_id, ablation, population, layer, head, target_kind, target_layer, target_head
-- Paper: section 3 (self-repair by later attention layers and MLPs)
-- Kept: mart
--
-- Changes are of the target's direct effect, at the clean scale. Those of all later heads add up to the ablated head's
-- mean_repair_attention, those of the MLPs to its mean_repair_mlp. In parallel blocks a head does not change the MLP
-- of its own layer.
--
-- The standard error is clustered by document, as that of every mean (repair_estimates), however the run is cut into units, with
-- two differences: a prompt counts with one document as a whole (prompt_clusters), and in top2 the cut's own uncertainty is not
-- taken off, since the changes around the cut are not stored. Where nothing repairs, these are 0 on average, and the error is that of
-- repair_estimates; where something does, it is too small. In units of earlier versions, which had one row for all documents, one
-- that lies in two units counts as two or, where the unit's was one document, as one; those of 0.1 count each unit as one.
--
-- Columns:
--   population VARCHAR: Rows used of the ablated head: 'all' measured positions; 'top2', the 2 % with the highest clean
--     direct_effect
--   mean_change DOUBLE: Mean over rows of the change in the target's direct effect; > 0: it repairs, < 0: it adds to the
--     damage [logits]
--   sd DOUBLE: Standard deviation of that change over the rows, divided by rows - 1; NULL: one row [logits]
--   standard_error DOUBLE: Standard error of mean_change, clustered by document; NULL: one cluster [logits]
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   n_clusters BIGINT: Documents with such rows, by which standard_error is clustered [clusters]

WITH of_documents AS (
    SELECT edge_sums.* REPLACE (coalesce(edge_sums.document_id, units.document_id) AS document_id)
    FROM edge_sums
    LEFT JOIN units USING (run_id, unit)
),
clusters AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        target_kind,
        target_layer,
        target_head,
        n_rows,
        change,
        squared_change,
        coalesce(n_clusters, 1) AS n_clusters,
        coalesce(squared_cluster_change, change * change) AS nn,
        coalesce(rows_by_change, n_rows * change) AS nd,
        coalesce(squared_rows, CAST(n_rows AS DOUBLE) * n_rows) AS dd
    FROM of_documents
    WHERE document_id IS NULL
    UNION ALL
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        target_kind,
        target_layer,
        target_head,
        sum(n_rows),
        sum(change),
        sum(squared_change),
        1,
        sum(change) * sum(change),
        sum(n_rows) * sum(change),
        CAST(sum(n_rows) AS DOUBLE) * sum(n_rows)
    FROM of_documents
    WHERE document_id IS NOT NULL
    GROUP BY run_id, ablation, population, layer, head, target_kind, target_layer, target_head, document_id
),
sums AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        target_kind,
        target_layer,
        target_head,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        CAST(sum(n_clusters) AS BIGINT) AS n_clusters,
        sum(change) AS change,
        sum(squared_change) AS squared_change,
        {'n': sum(change), 'd': sum(CAST(n_rows AS DOUBLE)), 'nn': sum(nn), 'nd': sum(nd), 'dd': sum(dd)} AS clusters
    FROM clusters
    GROUP BY run_id, ablation, population, layer, head, target_kind, target_layer, target_head
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    CAST(population AS VARCHAR) AS population,
    target_kind,
    target_layer,
    target_head,
    change / n_rows AS mean_change,
    sqrt(greatest(0, squared_change - change * change / n_rows) / nullif(n_rows - 1, 0)) AS sd,
    ratio_se(clusters, n_clusters) AS standard_error,
    n_rows,
    n_clusters
FROM sums
ORDER BY run_id, ablation, population, layer, head, target_kind, target_layer, target_head
