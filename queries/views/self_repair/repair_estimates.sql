-- Building block: every mean, fraction and share of self-repair with its interval, at the level of heads, layers, models.
--
-- Grain: run_id, ablation, population, level, layer, head, estimate
-- Paper: section 3 (Figure 1)
-- Kept: stage
--
-- Every estimate is a sum over rows divided by another: a mean by the number of rows, a fraction of direct effect by the
-- sum of direct_effect. A layer or model pools the rows of its heads, so that each row counts the same. Stored effects are
-- whole steps of 1e-4, and so sums of effects are rounded to these: what cancels is exactly 0 and not a tiny divisor.
--
-- Intervals are clustered by document, or by prompt where no two prompts share one (cluster_sums): the linearised variance
-- of a ratio of sums over G clusters, G / (G - 1) * sum r^2 / denominator^2 with residuals r = numerator - value * denominator, and
-- the 97.5 % point of Student's t. Its degrees of freedom are those of Welch and Satterthwaite, (sum r^2)^2 / sum r^4, at most
-- G - 1: clusters that differ much from the others tell less about the variance than as many alike. Where the residuals are
-- skewed, the longer side reaches as far as Hall's transform of t has it (half_width). One cluster has no interval. A fraction of
-- an effect has Fieller's interval with G - 1 degrees, which is not symmetric, and unbounded where the effect itself may be 0;
-- each side of it is widened by the same factor as of a mean.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows whatever the ablation); 'top2_nobos', the same of the positions after the first one; for fractions of direct
--     effect also the other populations of choice_sums
--   level VARCHAR: What a row describes: 'head', 'layer' (head is NULL) or 'model' (layer is NULL, too)
--   estimate VARCHAR: Name of the column in repair_means; or 'mean_total_ratio' and so on (choice_sums); those of
--     'post_norm' only where the model has post-norms
--   n_heads BIGINT: Measured heads whose rows are pooled [heads]
--   n_prompts BIGINT: Prompts measured, whether they have such rows or not; NULL: of choice_sums [prompts]
--   n_clusters BIGINT: Documents or prompts that intervals are clustered by [clusters]
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no clipped fraction and are not in its mean [rows]
--   value DOUBLE: The estimate; NULL when its divisor is 0 [logits or ratio]
--   standard_error DOUBLE: Its standard error; NULL for a single cluster [as value]
--   low DOUBLE: Lower end of its 95 % interval; NULL: one cluster, or unbounded [as value]
--   high DOUBLE: Upper end of its 95 % interval; NULL: one cluster, or unbounded [as value]
--   is_unbounded BOOLEAN: True: the effect that the value divides by is not told from 0 at 95 %, so that no interval holds it

WITH cluster_totals AS (
    SELECT
        run_id,
        ablation,
        population,
        cluster_id,
        CASE grouping(layer, head) WHEN 0 THEN 'head' WHEN 1 THEN 'layer' ELSE 'model' END AS level,
        layer,
        head,
        count(*) AS n_heads,
        max(n_prompts) AS n_prompts,
        sum(COLUMNS('_(rows|ratios|effect|change|ratio)$|^(repair|clipped)_')) AS '\0'
    FROM cluster_sums
    GROUP BY GROUPING SETS (
        (run_id, ablation, population, cluster_id, layer, head),
        (run_id, ablation, population, cluster_id, layer),
        (run_id, ablation, population, cluster_id)
    )
),
cluster_effects AS (
    SELECT
        *,
        direct_effect - ablated_direct_effect AS removed,
        logit_change + removed AS self_repair,
        logit_change - repair_layernorm AS frozen_change
    FROM cluster_totals
),
sums AS (
    SELECT
        run_id,
        ablation,
        population,
        level,
        layer,
        head,
        max(n_heads) AS n_heads,
        count(*) AS n_clusters,
        CAST(sum(n_prompts) AS BIGINT) AS n_prompts,
        CAST(sum(top_rows) AS BIGINT) AS n_rows,
        CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
        unnest(
            [
                ratio_sums('mean_direct_effect', false, direct_effect, n_rows),
                ratio_sums('mean_ablated_direct_effect', false, ablated_direct_effect, n_rows),
                ratio_sums('mean_removed_effect', false, removed, n_rows),
                ratio_sums('mean_logit_change', false, logit_change, n_rows),
                ratio_sums('mean_self_repair', false, self_repair, n_rows),
                ratio_sums('mean_repair_layernorm', false, repair_layernorm, n_rows),
                ratio_sums('mean_repair_attention', false, repair_attention, n_rows),
                ratio_sums('mean_repair_mlp', false, repair_mlp, n_rows),
                ratio_sums('mean_repair_post_norm', false, repair_post_norm, n_rows),
                ratio_sums('mean_ln_scale_ratio', false, ln_scale_ratio, n_rows),
                ratio_sums('mean_frozen_logit_change', false, frozen_change, n_rows),
                ratio_sums('repaired_share', false, repaired_rows, n_rows),
                ratio_sums('overrepaired_share', false, overrepaired_rows, n_rows),
                ratio_sums('larger_frozen_share', false, larger_frozen_rows, n_rows),
                ratio_sums('clipped_layernorm_fraction', false, clipped_layernorm, n_ratios),
                ratio_sums('clipped_attention_fraction', false, clipped_attention, n_ratios),
                ratio_sums('clipped_mlp_fraction', false, clipped_mlp, n_ratios),
                ratio_sums('clipped_post_norm_fraction', false, clipped_post_norm, n_ratios),
                ratio_sums('clipped_total_fraction', false, clipped_total, n_ratios),
                ratio_sums('layernorm_fraction_of_effect', true, repair_layernorm, direct_effect),
                ratio_sums('attention_fraction_of_effect', true, repair_attention, direct_effect),
                ratio_sums('mlp_fraction_of_effect', true, repair_mlp, direct_effect),
                ratio_sums('post_norm_fraction_of_effect', true, repair_post_norm, direct_effect),
                ratio_sums('total_fraction_of_effect', true, self_repair, direct_effect),
                ratio_sums('layernorm_fraction_of_removed', true, repair_layernorm, removed),
                ratio_sums('attention_fraction_of_removed', true, repair_attention, removed),
                ratio_sums('mlp_fraction_of_removed', true, repair_mlp, removed),
                ratio_sums('post_norm_fraction_of_removed', true, repair_post_norm, removed),
                ratio_sums('total_fraction_of_removed', true, self_repair, removed)
            ],
            recursive := true
        )
    FROM cluster_effects
    GROUP BY run_id, ablation, population, level, layer, head
),
all_sums AS (
    SELECT *
    FROM sums
    UNION ALL BY NAME
    SELECT *
    FROM choice_sums
),
totals AS (
    SELECT
        *,
        n_clusters / nullif(n_clusters - 1, 0) AS correction,
        t_975(n_clusters - 1) AS t,
        nullif(round(d, 4), 0) AS divisor,
        round(n, 9) / divisor AS value
    FROM all_sums
    WHERE n IS NOT NULL OR NOT contains(estimate, 'post_norm')
),
errors AS (
    SELECT
        *,
        nn - 2 * value * nd + value * value * dd AS differences,
        -- what is left of equal numbers by the subtraction is no difference
        CASE WHEN differences > 1e-11 * (nn + value * value * dd) THEN differences ELSE 0 END AS squares,
        sqrt(squares * correction) / abs(divisor) AS standard_error,
        t * t * correction AS scale,
        -- of the divisor: its square, less the squared half-width of its own interval
        divisor * divisor - scale * (dd - d * d / n_clusters) AS room,
        scale * (value * (dd - d * d / n_clusters) - (nd - n * d / n_clusters)) AS slope,
        is_fraction AND room <= 0 AS is_unbounded,
        -- of residuals that are that small, the subtractions leave no digits of higher powers
        squares > 1e-6 * (nn + value * value * dd) AS has_moments,
        nnn - 3 * value * nnd + 3 * value ** 2 * ndd - value ** 3 * ddd AS cubes,
        nnnn - 4 * value * nnnd + 6 * value ** 2 * nndd - 4 * value ** 3 * nddd + value ** 4 * dddd AS fourths,
        CASE WHEN has_moments THEN round(sign(divisor) * cubes / squares ** 1.5, 6) ELSE 0 END AS skew,
        t_975(
            CASE WHEN has_moments THEN greatest(1, least(n_clusters - 1, round(squares ** 2 / fourths, 5))) ELSE n_clusters - 1 END
        ) AS t_of_moments
    FROM totals
),
widths AS (
    SELECT
        *,
        half_width(t_of_moments, skew, -1) / t AS widen_low,
        half_width(t_of_moments, skew, 1) / t AS widen_high
    FROM errors
)
SELECT
    run_id,
    ablation,
    population,
    level,
    layer,
    head,
    estimate,
    n_heads,
    n_prompts,
    n_clusters,
    n_rows,
    undefined_ratios,
    value,
    standard_error,
    is_unbounded,
    CASE
        WHEN is_unbounded THEN NULL
        WHEN is_fraction THEN value + widen_low * (fieller(value, scale * squares, slope, room, -1) - value)
        ELSE value - widen_low * t * standard_error
    END AS low,
    CASE
        WHEN is_unbounded THEN NULL
        WHEN is_fraction THEN value + widen_high * (fieller(value, scale * squares, slope, room, 1) - value)
        ELSE value + widen_high * t * standard_error
    END AS high
FROM widths
