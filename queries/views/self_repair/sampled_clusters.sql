-- Building block: the documents that intervals of finer statistics are estimated from: all, or every n-th of many.
--
-- Grain: run_id, cluster_id
-- Paper: none
-- Kept: stage
--
-- An error that is estimated from 64 clusters is itself known to 9 %, and more take as much longer. So of a run with 128
-- clusters and 25,000 positions or more, every n-th stands for all, with at least 64 and about 12,500 positions left; the numbers
-- themselves are of all rows. Clusters are those of prompt_clusters.
--
-- Columns:
--   cluster_id INTEGER: A cluster that errors are estimated from: prompt_clusters.cluster_id
--   n_clusters BIGINT: Clusters of the run [clusters]
--   n_sampled BIGINT: Of these, those that errors are estimated from [clusters]

WITH places AS (
    SELECT
        run_id,
        cluster_id,
        row_number() OVER (PARTITION BY run_id ORDER BY cluster_id) AS place,
        count(*) OVER (PARTITION BY run_id) AS n_clusters
    FROM prompt_clusters
    GROUP BY run_id, cluster_id
),
sizes AS (
    SELECT run_id, count(*) AS n_positions
    FROM tokens
    GROUP BY run_id
)
SELECT run_id, cluster_id, n_clusters, count(*) OVER (PARTITION BY run_id) AS n_sampled
FROM places
LEFT JOIN sizes USING (run_id)
WHERE place % greatest(1, least(n_clusters // 64, coalesce(n_positions, 0) // 12500)) = 0
