-- Hidden backup heads: how every head's direct effect grows when given heads are ablated throughout, against the same
-- run without.
--
-- Grain: run_id, ablation, population, layer, head
-- Headline: label, given_heads, direct_effect_growth, growth_rank, mean_direct_effect, base_mean_direct_effect
-- Paper: section 3 (self-repair by later attention layers)
--
-- One row for each head of a run with given heads (runs.given_heads), which has a single ablation type. Its clean run
-- already has the given heads ablated, so its direct effects are what a head writes when these are ablated. It is
-- compared with the latest run of the same weights and configuration (as far as that was recorded) on the same dataset,
-- with the same ablation (resample: also the same pairing), that has no given heads and did not fail; without one there
-- are no rows. Given heads themselves are left out. Heads before the given
-- ones cannot grow. The final norm's scale shrinks when heads are ablated, so every direct effect grows a little: look
-- for growth far above the others', not for the first rank. Populations top2 and top2_nobos hold each run's own rows.
-- Standard errors assume independent runs; the runs share their prompts, so the error is too large. Failed runs are
-- left out.
--
-- Columns:
--   run_id INTEGER: The run with given heads: runs.run_id
--   base_run_id INTEGER: The run without, that it is compared with: runs.run_id
--   n_rows BIGINT: Rows of the run with given heads that the means cover [rows]
--   mean_direct_effect DOUBLE: Mean of direct_effect with the given heads ablated; > 0: pushes the correct token up [logits]
--   base_mean_direct_effect DOUBLE: Mean of direct_effect in the run without given heads; > 0: pushes the correct token
--     up [logits]
--   direct_effect_growth DOUBLE: mean_direct_effect - base_mean_direct_effect; > 0: the head does more when the given
--     ones are ablated [logits]
--   direct_effect_growth_se DOUBLE: Standard error of direct_effect_growth, assuming independent runs; NULL: one prompt
--     [logits]
--   mean_logit_change DOUBLE: Mean of logit_change with the given heads ablated; < 0: ablating this one as well hurts
--     [logits]
--   base_mean_logit_change DOUBLE: Mean of logit_change in the run without given heads; < 0: ablating this head hurts
--     [logits]
--   logit_change_growth DOUBLE: |mean_logit_change| - |base_mean_logit_change|; > 0: the head matters more when the
--     given ones are ablated [logits]
--   growth_rank BIGINT: Place by direct_effect_growth; 1: grows most; ties in the order of layer, head

WITH settings AS (
    SELECT DISTINCT
        runs.run_id,
        head_repair.ablation,
        runs.given_heads,
        runs.dataset_id,
        models.weights_sha256,
        models.config_sha256,
        CASE head_repair.ablation WHEN 'resample' THEN runs.seed END AS pairing_seed
    FROM head_repair
    INNER JOIN runs USING (run_id)
    INNER JOIN models USING (model_id)
    WHERE head_repair.population = 'all'
),
pairs AS (
    SELECT with_given.run_id, with_given.given_heads, ablation, max(without.run_id) AS base_run_id
    FROM settings AS with_given
    INNER JOIN settings AS without USING (weights_sha256, dataset_id, ablation)
    WHERE
        len(with_given.given_heads) > 0
        AND len(without.given_heads) = 0
        AND with_given.pairing_seed IS NOT DISTINCT FROM without.pairing_seed
        AND coalesce(with_given.config_sha256 = without.config_sha256, true)
    GROUP BY with_given.run_id, with_given.given_heads, ablation
)
SELECT
    pairs.run_id,
    given.model,
    pairs.ablation,
    given.population,
    given.layer,
    given.head,
    given.label,
    given.depth,
    pairs.given_heads,
    pairs.base_run_id,
    given.n_rows,
    given.mean_direct_effect,
    base.mean_direct_effect AS base_mean_direct_effect,
    given.mean_direct_effect - base.mean_direct_effect AS direct_effect_growth,
    sqrt(given.mean_direct_effect_se ** 2 + base.mean_direct_effect_se ** 2) AS direct_effect_growth_se,
    given.mean_logit_change,
    base.mean_logit_change AS base_mean_logit_change,
    abs(given.mean_logit_change) - abs(base.mean_logit_change) AS logit_change_growth,
    row_number() OVER (
        PARTITION BY pairs.run_id, pairs.ablation, given.population
        ORDER BY given.mean_direct_effect - base.mean_direct_effect DESC, given.layer, given.head
    ) AS growth_rank
FROM pairs
INNER JOIN head_repair AS given ON given.run_id = pairs.run_id AND given.ablation = pairs.ablation
INNER JOIN head_repair AS base
    ON base.run_id = pairs.base_run_id
    AND base.ablation = pairs.ablation
    AND base.population = given.population
    AND base.layer = given.layer
    AND base.head = given.head
WHERE NOT list_contains(pairs.given_heads, given.label)
ORDER BY pairs.run_id, pairs.ablation, given.population = 'all', given.population, growth_rank
