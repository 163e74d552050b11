-- Building block: how well a run's model predicts its text, with nothing ablated.
--
-- Grain: run_id
-- Paper: none
-- Kept: mart
--
-- Over all measured rows; the interval is clustered by document.
--
-- Columns:
--   mean_logprob DOUBLE: Mean over rows of the target's log-probability [nats]
--   logprob_half DOUBLE: Half of its 95 % interval; NULL: one cluster [nats]

WITH document_logprobs AS (
    SELECT run_id, cluster_id, sum(clean_logprob) AS logprob, count(*) AS n_rows
    FROM tokens
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
    GROUP BY run_id, cluster_id
)
SELECT
    run_id,
    sum(logprob) / sum(n_rows) AS mean_logprob,
    t_975(count(*) - 1) * ratio_se(ratio_sums('logprob', false, logprob, n_rows), count(*)) AS logprob_half
FROM document_logprobs
GROUP BY run_id
ORDER BY run_id
