-- Building block: changes in log-probability and KL divergence under ablation of a head, summed over all rows.
--
-- Grain: run_id, ablation, layer, head
-- Paper: none
-- Kept: mart
--
-- Columns:
--   n_rows BIGINT: Rows that the sums cover [rows]
--   sum_logprob_change DOUBLE: Sum of logprob_change [nats]
--   sum_kl DOUBLE: Sum of kl [nats]

SELECT
    run_id,
    ablation,
    layer,
    head,
    count(*) AS n_rows,
    round(sum(logprob_change), 4) AS sum_logprob_change,
    round(sum(kl), 4) AS sum_kl
FROM logprob_changes
GROUP BY run_id, ablation, layer, head
ORDER BY run_id, ablation, layer, head
