-- Building block: how far the numbers of ablation_agreement may be off: half of their 95 % intervals.
--
-- Grain: run_id, population, measure, ablation_a, ablation_b
-- Paper: section 3 (do ablation types differ?)
-- Kept: mart
--
-- A jackknife by document, heads as they are: each number is computed without one cluster (cluster_sums) in turn, or without one of
-- 64 groups of clusters where there are more, and G - 1 times the variance of these G numbers is the square of its standard error.
-- Correlations have it in Fisher's z, where it is near to symmetric. NULL: one cluster, or no number without one of them.
--
-- Columns:
--   measure VARCHAR: Which column of head_repair is compared
--   ablation_a ENUM('resample', 'mean', 'zero'): First of the two ablations
--   ablation_b ENUM('resample', 'mean', 'zero'): Second of the two ablations
--   n_clusters BIGINT: Documents or prompts that intervals are clustered by [clusters]
--   pearson_half DOUBLE: Half the interval of atanh(pearson)
--   spearman_half DOUBLE: Half the interval of atanh(spearman)
--   mean_difference_half DOUBLE: Half the interval of mean_difference [logits or ratio]
--   mean_absolute_difference_half DOUBLE: Half the interval of mean_absolute_difference [logits or ratio]

WITH groups AS (
    SELECT
        run_id,
        cluster_id,
        row_number() OVER (PARTITION BY run_id ORDER BY cluster_id) % 64 AS left_out,
        count(*) OVER (PARTITION BY run_id) AS n_clusters
    FROM (SELECT DISTINCT run_id, cluster_id FROM cluster_sums)
),
group_sums AS (
    SELECT
        run_id,
        population,
        ablation,
        layer,
        head,
        left_out,
        any_value(n_clusters) AS n_clusters,
        sum(n_rows) AS of_rows,
        sum(n_ratios) AS of_ratios,
        sum(direct_effect) AS of_effect,
        sum(ablated_direct_effect) AS of_ablated,
        sum(logit_change) AS of_change,
        sum(repair_layernorm) AS of_layernorm,
        sum(repair_attention) AS of_attention,
        sum(repair_mlp) AS of_mlp,
        sum(repair_post_norm) AS of_post_norm,
        sum(ln_scale_ratio) AS of_ratio,
        sum(clipped_total) AS of_clipped
    FROM cluster_sums
    INNER JOIN groups USING (run_id, cluster_id)
    GROUP BY run_id, population, ablation, layer, head, left_out
),
samples AS (
    SELECT
        run_id,
        population,
        ablation,
        layer,
        head,
        -1 AS left_out,
        any_value(n_clusters) AS n_clusters,
        sum(COLUMNS('^of_')) AS '\0'
    FROM group_sums
    GROUP BY run_id, population, ablation, layer, head
    UNION ALL
    SELECT
        run_id,
        population,
        ablation,
        layer,
        head,
        left_out,
        n_clusters,
        sum(COLUMNS('^of_')) OVER cell - COLUMNS('^of_') AS '\0'
    FROM group_sums
    WINDOW cell AS (PARTITION BY run_id, population, ablation, layer, head)
),
means AS (
    SELECT
        run_id,
        population,
        ablation,
        layer,
        head,
        left_out,
        n_clusters,
        -- of a top of few rows, what is left without a cluster may be none
        CASE WHEN of_rows > 1e-6 THEN of_rows END AS n,
        CASE WHEN of_ratios > 1e-6 THEN of_ratios END AS n_ratios,
        -- rounded, since the last digits of sums depend on their order, and with them which heads are equal
        round(of_ablated / n, 9) AS ablated,
        round((of_effect - of_ablated) / n, 9) AS removed,
        round(of_change / n, 9) AS change,
        round((of_change + of_effect - of_ablated) / n, 9) AS repair,
        round(of_layernorm / n, 9) AS layernorm,
        round(of_attention / n, 9) AS attention,
        round(of_mlp / n, 9) AS mlp,
        round(of_post_norm / n, 9) AS post_norm,
        round(of_ratio / n, 9) AS scale_ratio,
        round((of_change + of_effect - of_ablated) / nullif(round(of_effect, 4), 0), 9) AS fraction,
        round(of_clipped / n_ratios, 9) AS clipped_fraction
    FROM samples
),
pairs AS (
    SELECT
        run_id,
        population,
        one.ablation AS ablation_a,
        other.ablation AS ablation_b,
        left_out,
        one.n_clusters,
        unnest([
            {'measure': 'mean_ablated_direct_effect', 'value_a': one.ablated, 'value_b': other.ablated},
            {'measure': 'mean_removed_effect', 'value_a': one.removed, 'value_b': other.removed},
            {'measure': 'mean_logit_change', 'value_a': one.change, 'value_b': other.change},
            {'measure': 'mean_self_repair', 'value_a': one.repair, 'value_b': other.repair},
            {'measure': 'mean_repair_layernorm', 'value_a': one.layernorm, 'value_b': other.layernorm},
            {'measure': 'mean_repair_attention', 'value_a': one.attention, 'value_b': other.attention},
            {'measure': 'mean_repair_mlp', 'value_a': one.mlp, 'value_b': other.mlp},
            {'measure': 'mean_repair_post_norm', 'value_a': one.post_norm, 'value_b': other.post_norm},
            {'measure': 'mean_ln_scale_ratio', 'value_a': one.scale_ratio, 'value_b': other.scale_ratio},
            {'measure': 'total_fraction_of_effect', 'value_a': one.fraction, 'value_b': other.fraction},
            {'measure': 'clipped_total_fraction', 'value_a': one.clipped_fraction, 'value_b': other.clipped_fraction}
        ], recursive := true)
    FROM means AS one
    INNER JOIN means AS other USING (run_id, population, layer, head, left_out)
    WHERE one.ablation < other.ablation
),
shared_places AS (
    SELECT
        *,
        rank() OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b, left_out ORDER BY value_a)
            + (count(*) OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b, left_out, value_a) - 1) / 2
            AS place_a,
        rank() OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b, left_out ORDER BY value_b)
            + (count(*) OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b, left_out, value_b) - 1) / 2
            AS place_b
    FROM pairs
    WHERE value_a IS NOT NULL AND value_b IS NOT NULL
),
numbers AS (
    SELECT
        run_id,
        population,
        measure,
        ablation_a,
        ablation_b,
        left_out = -1 AS is_whole,
        any_value(n_clusters) AS n_clusters,
        count(*) AS n_heads,
        CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(value_a, value_b) END AS pearson,
        CASE WHEN min(value_a) < max(value_a) AND min(value_b) < max(value_b) THEN corr(place_a, place_b) END AS spearman,
        avg(value_a - value_b) AS mean_difference,
        avg(abs(value_a - value_b)) AS mean_absolute_difference
    FROM shared_places
    GROUP BY run_id, population, measure, ablation_a, ablation_b, left_out
),
of_all_heads AS (
    SELECT
        * EXCLUDE (pearson, spearman, mean_difference, mean_absolute_difference),
        n_heads = max(n_heads) OVER (PARTITION BY run_id, population, measure, ablation_a, ablation_b) AS has_all,
        CASE WHEN has_all AND abs(pearson) < 1 - 1e-12 THEN pearson END AS pearson,
        CASE WHEN has_all AND abs(spearman) < 1 - 1e-12 THEN spearman END AS spearman,
        CASE WHEN has_all THEN mean_difference END AS mean_difference,
        CASE WHEN has_all THEN mean_absolute_difference END AS mean_absolute_difference
    FROM numbers
)
SELECT
    run_id,
    population,
    measure,
    ablation_a,
    ablation_b,
    any_value(n_clusters) AS n_clusters,
    round(jackknife(atanh(pearson), is_whole), 7) AS pearson_half,
    round(jackknife(atanh(spearman), is_whole), 7) AS spearman_half,
    round(jackknife(mean_difference, is_whole), 7) AS mean_difference_half,
    round(jackknife(mean_absolute_difference, is_whole), 7) AS mean_absolute_difference_half
FROM of_all_heads
GROUP BY run_id, population, measure, ablation_a, ablation_b
ORDER BY run_id, population, measure, ablation_a, ablation_b
