-- How well three measures of an ablation agree on which heads matter: logit, log-probability and KL divergence, in
-- pairs.
--
-- Grain: run_id, ablation, measure_a, measure_b
-- Paper: none
--
-- Heads are compared by their absolute mean over all rows (head_measures). Ties share their average rank. Failed runs
-- are left out.
--
-- Columns:
--   measure_a VARCHAR: One measure: 'logit_change' or 'logprob_change'
--   measure_b VARCHAR: The other measure, later in the order logit_change, logprob_change, kl
--   n_heads BIGINT: Measured heads [heads]
--   spearman DOUBLE: Spearman's rank correlation of the two sizes over the heads; NULL where all heads of one of them are
--     equal [-1..1]
--   top10_overlap DOUBLE: Share of the 10 first heads by one measure that are among the 10 first by the other; of all heads
--     where there are fewer [ratio]

WITH sizes AS (
    SELECT
        *,
        unnest(
            [
                {'number': 1, 'measure': 'logit_change', 'size': abs(mean_logit_change), 'size_rank': logit_size_rank},
                {'number': 2, 'measure': 'logprob_change', 'size': abs(mean_logprob_change), 'size_rank': logprob_size_rank},
                {'number': 3, 'measure': 'kl', 'size': mean_kl, 'size_rank': kl_rank}
            ],
            recursive := true
        )
    FROM head_measures
),
places AS (
    SELECT
        *,
        rank() OVER (PARTITION BY run_id, ablation, number ORDER BY size)
            + (count(*) OVER (PARTITION BY run_id, ablation, number, size) - 1) / 2 AS place
    FROM sizes
)
SELECT
    run_id,
    one.model,
    ablation,
    one.measure AS measure_a,
    other.measure AS measure_b,
    count(*) AS n_heads,
    CASE
        WHEN min(one.size) < max(one.size) AND min(other.size) < max(other.size) THEN corr(one.place, other.place)
    END AS spearman,
    count(*) FILTER (one.size_rank <= 10 AND other.size_rank <= 10) / least(10, count(*)) AS top10_overlap
FROM places AS one
INNER JOIN places AS other USING (run_id, ablation, layer, head)
WHERE one.number < other.number
GROUP BY run_id, one.model, ablation, one.number, other.number, one.measure, other.measure
ORDER BY run_id, ablation, one.number, other.number
