-- Building block: how far prompts differ from each other in what a head's ablation does to them on average.
--
-- Grain: run_id, ablation, layer, head
-- Paper: section 3 (how noisy self-repair is)
-- Kept: stage
--
-- Columns:
--   self_repair_sd_between DOUBLE: Standard deviation of the prompts' mean self_repair, each prompt counting once, divided
--     by prompts - 1; NULL: one prompt [logits]
--   logit_change_sd_between DOUBLE: Standard deviation of the prompts' mean logit_change, each prompt counting once,
--     divided by prompts - 1; NULL: one prompt [logits]
--   self_repair_squares DOUBLE: Sum over prompts of rows * (mean self_repair - mean over all rows)^2 [logits^2]
--   logit_change_squares DOUBLE: Sum over prompts of rows * (mean logit_change - mean over all rows)^2 [logits^2]

WITH prompt_means AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        sum(n_rows) AS n_rows,
        -- stored effects are whole steps of 1e-4, and so are their sums
        round(sum(sum_direct_effect - sum_ablated_direct_effect + sum_logit_change), 4) / sum(n_rows) AS self_repair,
        round(sum(sum_logit_change), 4) / sum(n_rows) AS logit_change
    FROM stretch_sums
    GROUP BY run_id, ablation, layer, head, prompt_id
),
distances AS (
    SELECT
        *,
        self_repair - sum(n_rows * self_repair) OVER head_rows / sum(n_rows) OVER head_rows AS self_repair_distance,
        logit_change - sum(n_rows * logit_change) OVER head_rows / sum(n_rows) OVER head_rows AS logit_change_distance
    FROM prompt_means
    WINDOW head_rows AS (PARTITION BY run_id, ablation, layer, head)
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    stddev_samp(self_repair) AS self_repair_sd_between,
    stddev_samp(logit_change) AS logit_change_sd_between,
    sum(n_rows * self_repair_distance ** 2) AS self_repair_squares,
    sum(n_rows * logit_change_distance ** 2) AS logit_change_squares
FROM distances
GROUP BY run_id, ablation, layer, head
