-- Building block: how far from 0 an edge has to be to be told from it, among all that are tested (Benjamini and Hochberg).
--
-- Grain: run_id, ablation, population
-- Paper: none
-- Kept: mart
--
-- Of edges with fewer than 12 clusters none is tested. Edges are put in order by z, their mean_change / standard_error as a
-- standard normal number; the threshold is that of the last one whose z is at least that of a share of 0.025 * place /
-- n_tested. At most 2.5 % of the edges beyond a threshold are expected to be there by chance.
--
-- Columns:
--   population VARCHAR: Rows used of the ablated head: 'all' measured positions; 'top2', the 2 % with the highest clean
--     direct_effect
--   n_tested BIGINT: Edges that are tested [edges]
--   repairs_from DOUBLE: Lowest z of an edge that repairs; NULL: none does [standard errors]
--   damages_to DOUBLE: Highest z of an edge that adds to the damage; NULL: none does [standard errors]

WITH tests AS (
    SELECT
        run_id,
        ablation,
        population,
        normal_of_t(mean_change / (standard_error + 1e-12), n_clusters - 1) AS z
    FROM repair_edges
    WHERE n_clusters >= 12
),
places AS (
    SELECT
        *,
        count(*) OVER of_run AS n_tested,
        rank() OVER (of_run ORDER BY z DESC) AS place,
        rank() OVER (of_run ORDER BY z) AS place_from_below
    FROM tests
    WINDOW of_run AS (PARTITION BY run_id, ablation, population)
)
SELECT
    run_id,
    ablation,
    population,
    any_value(n_tested) AS n_tested,
    min(z) FILTER (z >= normal_tail(0.025 * place / n_tested)) AS repairs_from,
    max(z) FILTER (-z >= normal_tail(0.025 * place_from_below / n_tested)) AS damages_to
FROM places
GROUP BY run_id, ablation, population
