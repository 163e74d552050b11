-- Building block: the logit lens after each layer, over all positions of a run.
--
-- Grain: run_id, layer
-- Paper: section 6 (iterative inference)
-- Kept: mart
--
-- `logit_lens_by_layer` says how each number is defined.
--
-- Columns:
--   layer SMALLINT: Layer after which the residual stream is read, from 0
--   n_rows BIGINT: Positions that the numbers cover [rows]
--   mean_target_logit DOUBLE: Mean of the target's logit read there, above the mean of all logits, or above the foil's
--     [logits]
--   mean_target_logprob DOUBLE: Mean of the target's log-probability read there [nats]
--   top1_share DOUBLE: Positions where the target is the most likely token there, as a share of n_rows [ratio]
--   top10_share DOUBLE: Positions where it is among the ten most likely ones, as a share of n_rows [ratio]
--   median_rank INTEGER: Half of the positions have at most this rank: the median [rank]
--   top1_from_here_share DOUBLE: Positions where the target is the most likely token there and after every later layer,
--     as a share of n_rows [ratio]

WITH last_wrong AS (
    SELECT run_id, prompt_id, pos, max(layer) FILTER (rank > 1) AS last_wrong_layer
    FROM logit_lens
    GROUP BY run_id, prompt_id, pos
)
SELECT
    run_id,
    layer,
    count(*) AS n_rows,
    round(sum(logit), 4) / count(*) AS mean_target_logit,
    round(sum(logprob), 4) / count(*) AS mean_target_logprob,
    count(*) FILTER (rank = 1) / count(*) AS top1_share,
    count(*) FILTER (rank <= 10) / count(*) AS top10_share,
    quantile_disc(rank, 0.5) AS median_rank,
    count(*) FILTER (layer > coalesce(last_wrong_layer, -1)) / count(*) AS top1_from_here_share
FROM logit_lens
INNER JOIN last_wrong USING (run_id, prompt_id, pos)
GROUP BY run_id, layer
ORDER BY run_id, layer
