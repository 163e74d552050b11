-- How well two ablation types agree on the same heads: correlations and differences of the heads' means.
--
-- Grain: run_id, population, measure, ablation_a, ablation_b
-- Headline: measure, ablation_a, ablation_b, spearman, spearman_low, spearman_high, mean_difference, mean_absolute_difference,
--   n_heads, n_clusters
-- Paper: section 3 (do ablation types differ?)
--
-- Each pair of ablations of a run is compared once, in the order resample, mean, zero. Heads whose measure is NULL
-- under one of them are left out. Intervals are by document, for these heads (ablation_agreement_errors); that of
-- mean_absolute_difference leaves in what noise alone adds to absolute values. Failed runs are left out.
--
-- Columns:
--   measure VARCHAR: Which column of head_repair is compared
--   ablation_a ENUM('resample', 'mean', 'zero'): First of the two ablations
--   ablation_b ENUM('resample', 'mean', 'zero'): Second of the two ablations
--   n_heads BIGINT: Heads that are compared [heads]
--   n_clusters BIGINT: Documents or prompts that intervals are clustered by [clusters]
--   pearson DOUBLE: Pearson correlation over heads; NULL where all heads are equal under one of the two [-1..1]
--   spearman DOUBLE: Spearman's rank correlation over heads, ties share their average rank; NULL where all heads are
--     equal under one of the two [-1..1]
--   mean_difference DOUBLE: Mean over heads of the measure under ablation_a minus that under ablation_b [logits or ratio]
--   mean_absolute_difference DOUBLE: Mean over heads of the absolute difference [logits or ratio]

WITH head_measures AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        layer,
        head,
        unnest([
            {'measure': 'mean_ablated_direct_effect', 'value': mean_ablated_direct_effect},
            {'measure': 'mean_removed_effect', 'value': mean_removed_effect},
            {'measure': 'mean_logit_change', 'value': mean_logit_change},
            {'measure': 'mean_self_repair', 'value': mean_self_repair},
            {'measure': 'mean_repair_layernorm', 'value': mean_repair_layernorm},
            {'measure': 'mean_repair_attention', 'value': mean_repair_attention},
            {'measure': 'mean_repair_mlp', 'value': mean_repair_mlp},
            {'measure': 'mean_repair_post_norm', 'value': mean_repair_post_norm},
            {'measure': 'mean_ln_scale_ratio', 'value': mean_ln_scale_ratio},
            {'measure': 'total_fraction_of_effect', 'value': total_fraction_of_effect},
            {'measure': 'clipped_total_fraction', 'value': clipped_total_fraction}
        ], recursive := true)
    FROM head_repair
),
pairs AS (
    SELECT
        run_id,
        one.model,
        population,
        measure,
        one.ablation AS ablation_a,
        other.ablation AS ablation_b,
        one.value AS value_a,
        other.value AS value_b
    FROM head_measures AS one
    INNER JOIN head_measures AS other USING (run_id, population, measure, layer, head)
    WHERE one.ablation < other.ablation AND one.value IS NOT NULL AND other.value IS NOT NULL
),
shared_places AS (
    SELECT
        *,
        rank() OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b ORDER BY value_a)
            + (count(*) OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b, value_a) - 1) / 2 AS place_a,
        rank() OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b ORDER BY value_b)
            + (count(*) OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b, value_b) - 1) / 2 AS place_b
    FROM pairs
),
agreements AS (
    SELECT
        run_id,
        model,
        population,
        measure,
        ablation_a,
        ablation_b,
        count(*) AS n_heads,
        CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(value_a, value_b) END AS pearson,
        CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(place_a, place_b) END AS spearman,
        avg(value_a - value_b) AS mean_difference,
        avg(abs(value_a - value_b)) AS mean_absolute_difference
    FROM shared_places
    GROUP BY run_id, model, population, measure, ablation_a, ablation_b
)
SELECT
    run_id,
    model,
    population,
    measure,
    ablation_a,
    ablation_b,
    n_heads,
    n_clusters,
    pearson,
    tanh(atanh(CASE WHEN pearson_half IS NOT NULL THEN pearson END) - pearson_half) AS pearson_low,
    tanh(atanh(CASE WHEN pearson_half IS NOT NULL THEN pearson END) + pearson_half) AS pearson_high,
    spearman,
    tanh(atanh(CASE WHEN spearman_half IS NOT NULL THEN spearman END) - spearman_half) AS spearman_low,
    tanh(atanh(CASE WHEN spearman_half IS NOT NULL THEN spearman END) + spearman_half) AS spearman_high,
    mean_difference,
    mean_difference - mean_difference_half AS mean_difference_low,
    mean_difference + mean_difference_half AS mean_difference_high,
    mean_absolute_difference,
    CASE
        WHEN mean_absolute_difference_half IS NOT NULL
            THEN greatest(0, mean_absolute_difference - mean_absolute_difference_half)
    END AS mean_absolute_difference_low,
    mean_absolute_difference + mean_absolute_difference_half AS mean_absolute_difference_high
FROM agreements
LEFT JOIN ablation_agreement_errors USING (run_id, population, measure, ablation_a, ablation_b)
ORDER BY run_id, population = 'all', population, measure, ablation_a, ablation_b
