-- Hidden backup heads: how every head's direct effect grows when given heads are ablated throughout, against the same
-- run without.
--
-- Grain: run_id, ablation, population, layer, head
-- Headline: label, given_heads, direct_effect_growth, direct_effect_growth_low, direct_effect_growth_high, verdict,
--   growth_rank, mean_direct_effect, base_mean_direct_effect, n_clusters
-- Paper: section 3 (self-repair by later attention layers)
--
-- One row for each head of a run with given heads (runs.given_heads), which has a single ablation type. Its clean run
-- already has the given heads ablated, so its direct effects are what a head writes when these are ablated. It is
-- compared with a run of the same weights and configuration (as far as that was recorded) on the same dataset, with the
-- same ablation (resample: also the same pairing) and precision, that has no given heads: of several complete ones with that of the most heads, and of these with the newest (run_preference); without one
-- there are no rows. Given heads themselves are left out. Heads before the given ones cannot grow. The final norm's
-- scale shrinks when heads are ablated, so every direct effect grows a little: look for growth far above the others',
-- not for the first rank.
--
-- Standard errors are paired by document: of the difference of the two runs' residuals in each (cluster_residuals).
-- Populations top2 and top2_nobos hold each run's own rows, with the correction for each run's own cut. Intervals hold
-- at 95 % for all heads of a run and population together (Bonferroni).
--
-- A verdict has a margin: a head grows where its whole interval lies above a tenth of |base_mean_direct_effect|, shrinks
-- where it lies below minus that, and is steady where it lies between. Else it is unclear; with fewer than 12 clusters
-- there is not enough data. Failed runs are left out.
--
-- Columns:
--   run_id INTEGER: The run with given heads: runs.run_id
--   base_run_id INTEGER: The run without, that it is compared with: runs.run_id
--   n_rows BIGINT: Rows of the run with given heads that the means cover [rows]
--   n_clusters BIGINT: Documents or prompts that the two runs are paired by [clusters]
--   n_tested BIGINT: Heads of the run and population for which the intervals hold together [heads]
--   mean_direct_effect DOUBLE: Mean of direct_effect with the given heads ablated; > 0: pushes the correct token up [logits]
--   base_mean_direct_effect DOUBLE: Mean of direct_effect in the run without given heads; > 0: pushes the correct token
--     up [logits]
--   direct_effect_growth DOUBLE: mean_direct_effect - base_mean_direct_effect; > 0: the head does more when the given
--     ones are ablated [logits]
--   direct_effect_growth_se DOUBLE: Standard error of direct_effect_growth, paired by document; NULL: one cluster [logits]
--   direct_effect_growth_low DOUBLE: Lower end of its interval, at 95 % for all n_tested heads together; NULL: one cluster
--     [logits]
--   direct_effect_growth_high DOUBLE: Upper end of that interval; NULL: one cluster [logits]
--   verdict VARCHAR: 'grows', 'shrinks' or 'steady', by the interval and a tenth of |base_mean_direct_effect|; 'unclear': the
--     interval contains one end of that margin; 'not enough data': fewer than 12 clusters
--   mean_logit_change DOUBLE: Mean of logit_change with the given heads ablated; < 0: ablating this one as well hurts
--     [logits]
--   base_mean_logit_change DOUBLE: Mean of logit_change in the run without given heads; < 0: ablating this head hurts
--     [logits]
--   logit_change_growth DOUBLE: |mean_logit_change| - |base_mean_logit_change|; > 0: the head matters more when the
--     given ones are ablated [logits]
--   logit_change_growth_se DOUBLE: Standard error of logit_change_growth, paired by document; NULL: one cluster [logits]
--   growth_rank BIGINT: Place by direct_effect_growth; 1: grows most; ties in the order of layer, head

WITH settings AS (
    SELECT
        runs.run_id,
        unnest(runs.ablations) AS ablation,
        runs.given_heads,
        runs.dataset_id,
        runs.dtype,
        models.weights_sha256,
        models.config_sha256,
        runs.seed,
        run_preference.is_complete,
        run_preference.preference
    FROM runs
    INNER JOIN models USING (model_id)
    INNER JOIN run_preference USING (run_id)
),
pairs AS (
    SELECT
        with_given.run_id,
        ablation,
        with_given.given_heads,
        arg_min(without.run_id, without.preference) AS base_run_id
    FROM settings AS with_given
    INNER JOIN settings AS without USING (weights_sha256, dataset_id, dtype, ablation)
    WHERE
        len(with_given.given_heads) > 0
        AND len(without.given_heads) = 0
        AND without.is_complete
        AND (ablation <> 'resample' OR with_given.seed = without.seed)
        AND coalesce(with_given.config_sha256 = without.config_sha256, true)
    GROUP BY with_given.run_id, with_given.given_heads, ablation
),
means AS (
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
        given.mean_logit_change,
        base.mean_logit_change AS base_mean_logit_change,
        abs(given.mean_logit_change) - abs(base.mean_logit_change) AS logit_change_growth,
        count(*) OVER (PARTITION BY pairs.run_id, pairs.ablation, given.population) AS n_tested
    FROM pairs
    INNER JOIN head_repair AS given ON given.run_id = pairs.run_id AND given.ablation = pairs.ablation
    INNER JOIN head_repair AS base
        ON base.run_id = pairs.base_run_id
        AND base.ablation = pairs.ablation
        AND base.population = given.population
        AND base.layer = given.layer
        AND base.head = given.head
    WHERE NOT list_contains(pairs.given_heads, given.label)
),
signed_residuals AS (
    SELECT
        means.run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        residuals.run_id = means.run_id AS is_given,
        CASE WHEN is_given THEN 1 ELSE -1 END AS side,
        side * residuals.direct_effect AS direct_effect,
        side * sign(CASE WHEN is_given THEN mean_logit_change ELSE base_mean_logit_change END) * residuals.logit_change
            AS logit_change
    FROM means
    INNER JOIN cluster_residuals AS residuals USING (ablation, population, layer, head)
    WHERE residuals.run_id IN (means.run_id, means.base_run_id)
),
differences AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        CAST(sum(direct_effect) AS DOUBLE) AS direct_effect,
        CAST(sum(logit_change) AS DOUBLE) AS logit_change
    FROM signed_residuals
    GROUP BY run_id, ablation, population, layer, head, cluster_id
),
errors AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        count(*) AS n_clusters,
        round(sqrt(n_clusters / nullif(n_clusters - 1, 0) * sum(direct_effect ** 2)), 12) AS direct_effect_growth_se,
        round(sqrt(n_clusters / nullif(n_clusters - 1, 0) * sum(logit_change ** 2)), 12) AS logit_change_growth_se
    FROM differences
    GROUP BY run_id, ablation, population, layer, head
),
intervals AS (
    SELECT
        *,
        direct_effect_growth - t_of_many(n_clusters - 1, n_tested) * direct_effect_growth_se AS direct_effect_growth_low,
        direct_effect_growth + t_of_many(n_clusters - 1, n_tested) * direct_effect_growth_se AS direct_effect_growth_high,
        abs(base_mean_direct_effect) / 10 AS margin
    FROM means
    INNER JOIN errors USING (run_id, ablation, population, layer, head)
)
SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    head,
    label,
    depth,
    given_heads,
    base_run_id,
    n_rows,
    n_clusters,
    n_tested,
    mean_direct_effect,
    base_mean_direct_effect,
    direct_effect_growth,
    direct_effect_growth_se,
    direct_effect_growth_low,
    direct_effect_growth_high,
    CASE
        WHEN n_clusters < 12 THEN 'not enough data'
        WHEN direct_effect_growth_low > margin THEN 'grows'
        WHEN direct_effect_growth_high < -margin THEN 'shrinks'
        WHEN direct_effect_growth_low >= -margin AND direct_effect_growth_high <= margin THEN 'steady'
        ELSE 'unclear'
    END AS verdict,
    mean_logit_change,
    base_mean_logit_change,
    logit_change_growth,
    logit_change_growth_se,
    row_number() OVER (
        PARTITION BY run_id, ablation, population ORDER BY direct_effect_growth DESC, layer, head
    ) AS growth_rank
FROM intervals
ORDER BY run_id, ablation, population = 'all', population, growth_rank
