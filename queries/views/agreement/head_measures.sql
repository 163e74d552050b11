-- The effect of ablating a head by three measures: the target's logit, its log-probability, and KL divergence.
--
-- Grain: run_id, ablation, layer, head
-- Paper: none
--
-- Means over all rows of the head. Ranks are by absolute mean, each given once; ties are broken by layer, head. A logit
-- can change together with all others and leave the prediction as it is; KL divergence compares the probabilities of
-- all tokens and is never below 0, so that nothing cancels in its mean. Failed runs are left out.
--
-- Columns:
--   mean_logprob_change DOUBLE: Mean of logprob_change; < 0: the ablation hurts [nats]
--   mean_kl DOUBLE: Mean of kl, KL(clean||ablated); 0: the prediction does not change [nats]
--   logit_size_rank BIGINT: Rank by |mean_logit_change|; 1: the largest
--   logprob_size_rank BIGINT: Rank by |mean_logprob_change|; 1: the largest
--   kl_rank BIGINT: Rank by mean_kl; 1: the largest

SELECT
    run_id,
    model,
    ablation,
    layer,
    head,
    label,
    depth,
    measure_sums.n_rows,
    mean_logit_change,
    sum_logprob_change / measure_sums.n_rows AS mean_logprob_change,
    sum_kl / measure_sums.n_rows AS mean_kl,
    row_number() OVER (of_run ORDER BY abs(mean_logit_change) DESC, layer, head) AS logit_size_rank,
    row_number() OVER (
        of_run ORDER BY abs(sum_logprob_change / measure_sums.n_rows) DESC, layer, head
    ) AS logprob_size_rank,
    row_number() OVER (of_run ORDER BY sum_kl / measure_sums.n_rows DESC, layer, head) AS kl_rank
FROM measure_sums
INNER JOIN head_repair USING (run_id, ablation, layer, head)
WHERE head_repair.population = 'all'
WINDOW of_run AS (PARTITION BY run_id, ablation)
ORDER BY run_id, ablation, layer, head
