-- Building block: sums, squares and products of a prompt's effects under ablation of a head: what spreads and lines follow from.
--
-- Grain: run_id, ablation, layer, head, prompt_id
-- Paper: section 3 (how noisy self-repair is)
-- Kept: stage
--
-- In whole steps of 1e-4 logits, in which effects are stored, so that the sums are exact and differences of large ones lose
-- nothing.
--
-- Columns:
--   n_rows BIGINT: Rows of the prompt [rows]
--   effect DOUBLE: Sum of direct_effect [steps]
--   change DOUBLE: Sum of logit_change [steps]
--   repair DOUBLE: Sum of self_repair [steps]
--   effect_effect DOUBLE: Sum of direct_effect^2 [steps^2]
--   effect_change DOUBLE: Sum of direct_effect * logit_change [steps^2]
--   change_change DOUBLE: Sum of logit_change^2 [steps^2]
--   repair_repair DOUBLE: Sum of self_repair^2 [steps^2]

WITH steps AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        prompt_id,
        CAST(round(direct_effect * 10000) AS DOUBLE) AS effect,
        CAST(round(logit_change * 10000) AS DOUBLE) AS change,
        CAST(round((logit_change - (ablated_direct_effect - direct_effect)) * 10000) AS DOUBLE) AS repair
    FROM measurements
)
SELECT
    run_id,
    ablation,
    layer,
    head,
    prompt_id,
    count(*) AS n_rows,
    sum(effect) AS effect,
    sum(change) AS change,
    sum(repair) AS repair,
    sum(effect * effect) AS effect_effect,
    sum(effect * change) AS effect_change,
    sum(change * change) AS change_change,
    sum(repair * repair) AS repair_repair
FROM steps
GROUP BY run_id, ablation, layer, head, prompt_id
