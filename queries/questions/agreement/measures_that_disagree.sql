-- For which heads does the measure of an ablation matter? The widest range of ranks by logit, log-probability and KL.
--
-- Grain: run_id, layer, head
-- Paper: none
--
-- Runs that did not measure log-probabilities have no rows. How far whole runs agree: measure_agreement.
--
-- Parameters:
--   model, run_id, ablation, at_most
--
-- Columns:
--   rank_range BIGINT: Highest minus lowest of the three ranks [ranks]

SELECT
    run_id,
    model,
    label,
    greatest(logit_size_rank, logprob_size_rank, kl_rank) - least(logit_size_rank, logprob_size_rank, kl_rank)
        AS rank_range,
    logit_size_rank,
    logprob_size_rank,
    kl_rank,
    mean_logit_change,
    mean_logprob_change,
    mean_kl,
    layer,
    head
FROM head_measures
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY rank_range DESC, layer, head) <= $at_most
ORDER BY run_id, rank_range DESC, layer, head
