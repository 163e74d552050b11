-- The paper's claims one by one: the value in a run, the published value, and whether the two agree.
--
-- Grain: run_id, ablation, claim
-- Headline: statement, value, published_value, verdict, reason, low, high, n_heads
-- Paper: sections 3 and 4
--
-- Claims are about resample ablation and each head's top 2 %, except heavy_tails and noisy_repair, which are over all
-- rows. Published values are computed from published_head_repair, run 'default'; where there is no number, the paper's
-- words give a lower bound.
--
-- Intervals are 95 % and count the model's heads as drawn, and its text, too. A share of heads has Wilson's interval; that of
-- late_heads_repaired reaches from Wilson's lower end for the heads whose own interval of mean self-repair lies above 0 to
-- the upper end for those where it does not lie below. The variance of a mean over heads is that between heads plus
-- that between documents (cluster_sums); of norm_shrinks, for which documents are not kept apart, between heads alone.
--
-- Every claim is about a model that predicts its text by its heads. It differs, whatever its value, where the mean
-- log-probability of the targets is below half of a uniform guess's, -ln(d_vocab) / 2 (untrained models are near
-- -ln(d_vocab) or below), or where the mean direct effect of the top 2 % is below half of the published one.
--
-- Margins are stated before anything is measured: 0.2 for a share of heads and for imperfect_repair (72 heads alone
-- leave 0.1 to either side, and the authors' two runs of pythia-160m differ by 0.04 and 0.08), 0.1 for
-- layernorm_fraction, 0.05 above a bound that is a share and 0.005 above one that is a ratio of scales. A claim agrees
-- where its whole interval lies within the margin around published_value, or above expected_above + margin, and
-- without_structure is not in it. It differs where none of the interval does. Else there is not enough data if the
-- interval is wider than the margin allows (twice the margin around a number), and it is unclear if not. Fewer than 12
-- clusters or no interval: not enough data. Failed runs are left out.
--
-- Columns:
--   claim_number INTEGER: Place of the claim among these, from 1
--   claim VARCHAR: Name of the claim
--   statement VARCHAR: What the value is
--   value DOUBLE: Its value in this run; NULL: undefined [ratio]
--   low DOUBLE: Lower end of its 95 % interval; NULL: none [ratio]
--   high DOUBLE: Upper end of its 95 % interval; NULL: none [ratio]
--   published_value DOUBLE: The value computed from the paper's released data; NULL: the paper states it in words only
--     [ratio]
--   expected_above DOUBLE: Lower bound stated by the paper in words; NULL: a number was published [ratio]
--   margin DOUBLE: How far from published_value, or how much above expected_above, the claim is drawn [ratio]
--   without_structure DOUBLE: What the value is without self-repair, or of outputs in random directions; NULL: not known
--     [ratio]
--   n_heads BIGINT: Measured heads that the value covers [heads]
--   n_published_heads BIGINT: Heads of the published model that it should cover [heads]
--   verdict VARCHAR: 'agrees', 'differs' or 'unclear', by the interval, published_value or expected_above, and margin; 'not
--     enough data': fewer than 12 clusters, no interval, or one that is wider than the margin allows (reason); NULL: some of
--     the heads were not measured, or there is no value
--   reason VARCHAR: Why the verdict is not 'agrees'; NULL: it is

WITH published_heads AS (
    SELECT
        published_model,
        2 * layer > max(layer) OVER (PARTITION BY published_model) AS is_late,
        max(published_value) FILTER (quantity = 'direct_effect') AS direct_effect,
        max(published_value) FILTER (quantity = 'self_repair') AS self_repair,
        max(published_value) FILTER (quantity = 'clipped_layernorm_fraction') AS layernorm_fraction
    FROM published_quantities
    WHERE population = 'top2' AND published_run = 'default'
    GROUP BY published_model, layer, head
),
published AS (
    SELECT
        published_model,
        count(*) AS n_published_heads,
        count(*) FILTER (is_late) AS n_published_late,
        count(*) FILTER (is_late AND self_repair > 0) / count(*) FILTER (is_late) AS late_share,
        avg(layernorm_fraction) AS layernorm_fraction,
        1 - sum(self_repair) / sum(direct_effect) AS lost_fraction,
        avg(direct_effect) AS direct_effect
    FROM published_heads
    GROUP BY published_model
),
matched AS (
    SELECT published_matches.run_id, published_matches.model, published.*
    FROM published_matches
    INNER JOIN published USING (published_model)
),
premises AS (
    SELECT
        run_id,
        n_clusters,
        mean_logprob - logprob_half > -ln(d_vocab) / 2 AS predicts,
        mean_logprob + logprob_half < -ln(d_vocab) / 2 AS predicts_not,
        mean_direct_effect - half_of_effect > matched.direct_effect / 2 AS has_effects,
        mean_direct_effect + half_of_effect < matched.direct_effect / 2 AS has_no_effects
    FROM matched
    INNER JOIN text_logprobs USING (run_id)
    INNER JOIN runs USING (run_id)
    INNER JOIN models USING (model_id)
    INNER JOIN (
        SELECT run_id, n_clusters, mean_direct_effect, t_975(n_clusters - 1) * mean_direct_effect_se AS half_of_effect
        FROM model_repair
        WHERE ablation = 'resample' AND population = 'top2'
    ) USING (run_id)
),
head_spread AS (
    SELECT
        run_id,
        count(*) AS n_heads,
        var_samp(clipped_layernorm_fraction) / count(*) AS layernorm_variance,
        var_samp(mean_ln_scale_ratio) / count(*) AS ratio_variance,
        ratio_se(ratio_sums('lost', true, mean_self_repair, mean_direct_effect), n_heads) ** 2 AS lost_variance
    FROM head_repair
    WHERE ablation = 'resample' AND population = 'top2'
    GROUP BY run_id
),
head_shrinking AS (
    SELECT run_id, avg(share_above_1) AS share, stddev_samp(share_above_1) / sqrt(count(*)) AS standard_error
    FROM layernorm_ratio
    WHERE ablation = 'resample' AND population = 'top2' AND level = 'head'
    GROUP BY run_id
),
mean_claims AS (
    SELECT
        run_id,
        n_heads,
        n_published_heads AS n_published,
        least(n_heads, n_clusters) - 1 AS freedom,
        unnest([
            {
                'claim_number': 2,
                'claim': 'layernorm_fraction',
                'statement': 'LayerNorm repair / direct effect, each row clipped to [0, 1], mean',
                'value': clipped_layernorm_fraction,
                'standard_error': sqrt(layernorm_variance + clipped_layernorm_fraction_se ** 2),
                'published_value': layernorm_fraction,
                'expected_above': NULL::DOUBLE,
                'margin': 0.1::DOUBLE,
                'without_structure': NULL::DOUBLE
            },
            {
                'claim_number': 3,
                'claim': 'imperfect_repair',
                'statement': 'Direct effect that is not repaired, 1 - self-repair / direct effect',
                'value': 1 - total_fraction_of_effect,
                'standard_error': sqrt(lost_variance + total_fraction_of_effect_se ** 2),
                'published_value': lost_fraction,
                'expected_above': NULL,
                'margin': 0.2,
                'without_structure': 1
            },
            {
                'claim_number': 4,
                'claim': 'norm_shrinks',
                'statement': 'Rows with S/S'' above 1: ablation shrinks the final norm''s scale, share',
                'value': head_shrinking.share,
                'standard_error': head_shrinking.standard_error,
                'published_value': NULL,
                'expected_above': 0.5,
                'margin': 0.05,
                'without_structure': 0.5
            },
            {
                'claim_number': 5,
                'claim': 'norm_ratio',
                'statement': 'S/S'', clean over ablated scale of the final norm, mean',
                'value': mean_ln_scale_ratio,
                'standard_error': sqrt(ratio_variance + mean_ln_scale_ratio_se ** 2),
                'published_value': NULL,
                'expected_above': 1,
                'margin': 0.005,
                'without_structure': 1
            }
        ], recursive := true)
    FROM matched
    INNER JOIN model_repair USING (run_id)
    INNER JOIN head_spread USING (run_id, n_heads)
    INNER JOIN head_shrinking USING (run_id)
    WHERE ablation = 'resample' AND population = 'top2'
),
late_heads AS (
    SELECT
        run_id,
        count(*) AS n_heads,
        n_published_late AS n_published,
        late_share,
        count(*) FILTER (mean_self_repair > 0) AS n,
        count(*) FILTER (mean_self_repair_low > 0) AS n_least,
        n_heads - count(*) FILTER (mean_self_repair_high <= 0) AS n_most
    FROM matched
    INNER JOIN head_repair USING (run_id)
    WHERE ablation = 'resample' AND population = 'top2' AND depth >= 50
    GROUP BY run_id, n_published_late, late_share
),
tails AS (
    SELECT
        run_id,
        count(*) AS n_heads,
        n_published_heads AS n_published,
        count(*) FILTER (excess_kurtosis > 6) AS n
    FROM matched
    INNER JOIN head_tail USING (run_id)
    WHERE ablation = 'resample' AND measure = 'direct_effect'
    GROUP BY run_id, n_published_heads
),
noise AS (
    SELECT
        run_id,
        count(*) AS n_heads,
        n_published_heads AS n_published,
        count(*) FILTER (
            abs(mean_self_repair) BETWEEN t_975(head_repair.n_clusters - 1) * mean_self_repair_se AND self_repair_sd_within
        ) AS n
    FROM matched
    INNER JOIN head_noise USING (run_id)
    INNER JOIN head_repair USING (run_id, ablation, layer, head)
    WHERE ablation = 'resample' AND population = 'all'
    GROUP BY run_id, n_published_heads
),
share_claims AS (
    SELECT
        run_id,
        n_heads,
        n_published,
        n,
        n_least,
        n_most,
        1 AS claim_number,
        'late_heads_repaired' AS claim,
        'Heads of the later half with mean self-repair above 0, share' AS statement,
        late_share AS published_value,
        NULL::DOUBLE AS expected_above,
        0.2::DOUBLE AS margin,
        0.5::DOUBLE AS without_structure
    FROM late_heads
    UNION ALL
    SELECT
        run_id,
        n_heads,
        n_published,
        n,
        n,
        n,
        6,
        'heavy_tails',
        'Heads whose direct effect has excess kurtosis above 6, that of a product of two normal numbers, share',
        NULL,
        0.5,
        0.05,
        0
    FROM tails
    UNION ALL
    SELECT
        run_id,
        n_heads,
        n_published,
        n,
        n,
        n,
        7,
        'noisy_repair',
        'Heads whose mean self-repair is told from 0 and yet is less than its spread within prompts, share',
        NULL,
        0.5,
        0.05,
        0.05
    FROM noise
),
claims AS (
    SELECT
        * EXCLUDE (freedom, standard_error),
        value - t_975(freedom) * standard_error AS low,
        value + t_975(freedom) * standard_error AS high
    FROM mean_claims
    UNION ALL BY NAME
    SELECT
        * EXCLUDE (n, n_least, n_most),
        n / n_heads AS value,
        wilson(n_least, n_heads, -1) AS low,
        wilson(n_most, n_heads, 1) AS high
    FROM share_claims
),
judged AS (
    SELECT
        *,
        coalesce(published_value - margin, expected_above + margin) AS floor,
        coalesce(published_value + margin, 'infinity'::DOUBLE) AS ceiling,
        high - low > margin * CASE WHEN published_value IS NULL THEN 1 ELSE 2 END AS is_wide,
        CASE
            WHEN value IS NULL OR n_heads < n_published THEN NULL
            WHEN n_clusters < 12 THEN {'verdict': 'not enough data', 'reason': 'fewer than 12 documents'}
            WHEN low IS NULL THEN {'verdict': 'not enough data', 'reason': 'no interval'}
            WHEN predicts_not THEN {'verdict': 'differs', 'reason': 'the model does not predict its text'}
            WHEN has_no_effects THEN {'verdict': 'differs', 'reason': 'direct effects are below half of the published ones'}
            WHEN low > ceiling OR high < floor THEN {'verdict': 'differs', 'reason': 'the interval lies beyond the margin'}
            WHEN NOT predicts THEN {'verdict': 'not enough data', 'reason': 'whether the model predicts its text is not certain'}
            WHEN NOT has_effects THEN {'verdict': 'not enough data', 'reason': 'direct effects may be below half of the published ones'}
            WHEN (low < floor OR high > ceiling) AND is_wide
                THEN {'verdict': 'not enough data', 'reason': 'the interval is wider than the margin'}
            WHEN low < floor OR high > ceiling THEN {'verdict': 'unclear', 'reason': 'the interval reaches beyond the margin'}
            WHEN without_structure BETWEEN low AND high
                THEN {'verdict': 'unclear', 'reason': 'the interval holds what there is without self-repair'}
            ELSE {'verdict': 'agrees', 'reason': NULL}
        END AS finding
    FROM claims
    INNER JOIN premises USING (run_id)
)
SELECT
    run_id,
    matched.model,
    CAST('resample' AS ablation_kind) AS ablation,
    matched.published_model,
    judged.claim_number,
    judged.claim,
    judged.statement,
    judged.value,
    judged.low,
    judged.high,
    judged.published_value,
    judged.expected_above,
    judged.margin,
    judged.without_structure,
    judged.n_heads,
    judged.n_published AS n_published_heads,
    judged.n_clusters,
    finding.verdict,
    finding.reason
FROM judged
INNER JOIN matched USING (run_id)
ORDER BY run_id, claim_number
