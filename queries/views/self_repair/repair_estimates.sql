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
-- Rows of one prompt are correlated, so that intervals are clustered by prompt: the linearised variance of a ratio of
-- sums over P prompts, P / (P - 1) * sum (numerator - value * denominator)^2 / denominator^2, and the 97.5 % point of
-- Student's t with P - 1 degrees of freedom (from four prompts on its expansion in 1 / (P - 1), exact to 0.2 %). One
-- prompt has no interval.
--
-- Columns:
--   level VARCHAR: What a row describes: 'head', 'layer' (head is NULL) or 'model' (layer is NULL, too)
--   estimate VARCHAR: Name of the column in repair_means
--   n_heads BIGINT: Measured heads whose rows are pooled [heads]
--   n_prompts BIGINT: Prompts that have such rows [prompts]
--   n_rows BIGINT: Rows that the numbers cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no clipped fraction and are not in its mean [rows]
--   value DOUBLE: The estimate; NULL when its divisor is 0 [logits or ratio]
--   standard_error DOUBLE: Its standard error, clustered by prompt; NULL for a single prompt [as value]
--   low DOUBLE: Lower end of its 95 % interval [as value]
--   high DOUBLE: Upper end of its 95 % interval [as value]

WITH prompt_totals AS (
    SELECT
        run_id,
        ablation,
        population,
        prompt_id,
        CASE grouping(layer, head) WHEN 0 THEN 'head' WHEN 1 THEN 'layer' ELSE 'model' END AS level,
        layer,
        head,
        CAST(sum(n_rows) AS DOUBLE) AS n_rows,
        CAST(sum(undefined_ratios) AS DOUBLE) AS undefined_ratios,
        CAST(sum(repaired_rows) AS DOUBLE) AS repaired_rows,
        CAST(sum(overrepaired_rows) AS DOUBLE) AS overrepaired_rows,
        CAST(sum(larger_frozen_rows) AS DOUBLE) AS larger_frozen_rows,
        round(sum(sum_direct_effect), 4) AS effect,
        round(sum(sum_ablated_direct_effect), 4) AS ablated_direct_effect,
        round(sum(sum_logit_change), 4) AS logit_change,
        round(sum(sum_repair_layernorm), 4) AS repair_layernorm,
        round(sum(sum_repair_attention), 4) AS repair_attention,
        round(sum(sum_repair_mlp), 4) AS repair_mlp,
        round(sum(sum_ln_scale_ratio), 4) AS ln_scale_ratio,
        sum(sum_clipped_layernorm) AS clipped_layernorm,
        sum(sum_clipped_attention) AS clipped_attention,
        sum(sum_clipped_mlp) AS clipped_mlp,
        sum(sum_clipped_total) AS clipped_total
    FROM prompt_sums
    GROUP BY GROUPING SETS (
        (run_id, ablation, population, prompt_id, layer, head),
        (run_id, ablation, population, prompt_id, layer),
        (run_id, ablation, population, prompt_id)
    )
),
prompt_effects AS (
    SELECT
        *,
        round(effect - ablated_direct_effect, 4) AS removed,
        round(logit_change - ablated_direct_effect + effect, 4) AS self_repair,
        round(logit_change - repair_layernorm, 4) AS frozen_change,
        n_rows - undefined_ratios AS n_ratios
    FROM prompt_totals
),
moments AS (
    SELECT
        run_id,
        ablation,
        population,
        level,
        layer,
        head,
        count(*) AS n_prompts,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
        -- over prompts, of a numerator n and a denominator d: their sums, their squares' and their product's
        [
            {
                'estimate': 'mean_direct_effect',
                'n': sum(effect),
                'd': sum(n_rows),
                'nn': sum(effect * effect),
                'nd': sum(effect * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_ablated_direct_effect',
                'n': sum(ablated_direct_effect),
                'd': sum(n_rows),
                'nn': sum(ablated_direct_effect * ablated_direct_effect),
                'nd': sum(ablated_direct_effect * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_removed_effect',
                'n': sum(removed),
                'd': sum(n_rows),
                'nn': sum(removed * removed),
                'nd': sum(removed * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_logit_change',
                'n': sum(logit_change),
                'd': sum(n_rows),
                'nn': sum(logit_change * logit_change),
                'nd': sum(logit_change * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_self_repair',
                'n': sum(self_repair),
                'd': sum(n_rows),
                'nn': sum(self_repair * self_repair),
                'nd': sum(self_repair * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_repair_layernorm',
                'n': sum(repair_layernorm),
                'd': sum(n_rows),
                'nn': sum(repair_layernorm * repair_layernorm),
                'nd': sum(repair_layernorm * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_repair_attention',
                'n': sum(repair_attention),
                'd': sum(n_rows),
                'nn': sum(repair_attention * repair_attention),
                'nd': sum(repair_attention * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_repair_mlp',
                'n': sum(repair_mlp),
                'd': sum(n_rows),
                'nn': sum(repair_mlp * repair_mlp),
                'nd': sum(repair_mlp * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_ln_scale_ratio',
                'n': sum(ln_scale_ratio),
                'd': sum(n_rows),
                'nn': sum(ln_scale_ratio * ln_scale_ratio),
                'nd': sum(ln_scale_ratio * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'repaired_share',
                'n': sum(repaired_rows),
                'd': sum(n_rows),
                'nn': sum(repaired_rows * repaired_rows),
                'nd': sum(repaired_rows * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'overrepaired_share',
                'n': sum(overrepaired_rows),
                'd': sum(n_rows),
                'nn': sum(overrepaired_rows * overrepaired_rows),
                'nd': sum(overrepaired_rows * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'larger_frozen_share',
                'n': sum(larger_frozen_rows),
                'd': sum(n_rows),
                'nn': sum(larger_frozen_rows * larger_frozen_rows),
                'nd': sum(larger_frozen_rows * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'mean_frozen_logit_change',
                'n': sum(frozen_change),
                'd': sum(n_rows),
                'nn': sum(frozen_change * frozen_change),
                'nd': sum(frozen_change * n_rows),
                'dd': sum(n_rows * n_rows)
            },
            {
                'estimate': 'clipped_layernorm_fraction',
                'n': sum(clipped_layernorm),
                'd': sum(n_ratios),
                'nn': sum(clipped_layernorm * clipped_layernorm),
                'nd': sum(clipped_layernorm * n_ratios),
                'dd': sum(n_ratios * n_ratios)
            },
            {
                'estimate': 'clipped_attention_fraction',
                'n': sum(clipped_attention),
                'd': sum(n_ratios),
                'nn': sum(clipped_attention * clipped_attention),
                'nd': sum(clipped_attention * n_ratios),
                'dd': sum(n_ratios * n_ratios)
            },
            {
                'estimate': 'clipped_mlp_fraction',
                'n': sum(clipped_mlp),
                'd': sum(n_ratios),
                'nn': sum(clipped_mlp * clipped_mlp),
                'nd': sum(clipped_mlp * n_ratios),
                'dd': sum(n_ratios * n_ratios)
            },
            {
                'estimate': 'clipped_total_fraction',
                'n': sum(clipped_total),
                'd': sum(n_ratios),
                'nn': sum(clipped_total * clipped_total),
                'nd': sum(clipped_total * n_ratios),
                'dd': sum(n_ratios * n_ratios)
            },
            {
                'estimate': 'layernorm_fraction_of_effect',
                'n': sum(repair_layernorm),
                'd': sum(effect),
                'nn': sum(repair_layernorm * repair_layernorm),
                'nd': sum(repair_layernorm * effect),
                'dd': sum(effect * effect)
            },
            {
                'estimate': 'attention_fraction_of_effect',
                'n': sum(repair_attention),
                'd': sum(effect),
                'nn': sum(repair_attention * repair_attention),
                'nd': sum(repair_attention * effect),
                'dd': sum(effect * effect)
            },
            {
                'estimate': 'mlp_fraction_of_effect',
                'n': sum(repair_mlp),
                'd': sum(effect),
                'nn': sum(repair_mlp * repair_mlp),
                'nd': sum(repair_mlp * effect),
                'dd': sum(effect * effect)
            },
            {
                'estimate': 'total_fraction_of_effect',
                'n': sum(self_repair),
                'd': sum(effect),
                'nn': sum(self_repair * self_repair),
                'nd': sum(self_repair * effect),
                'dd': sum(effect * effect)
            },
            {
                'estimate': 'layernorm_fraction_of_removed',
                'n': sum(repair_layernorm),
                'd': sum(removed),
                'nn': sum(repair_layernorm * repair_layernorm),
                'nd': sum(repair_layernorm * removed),
                'dd': sum(removed * removed)
            },
            {
                'estimate': 'attention_fraction_of_removed',
                'n': sum(repair_attention),
                'd': sum(removed),
                'nn': sum(repair_attention * repair_attention),
                'nd': sum(repair_attention * removed),
                'dd': sum(removed * removed)
            },
            {
                'estimate': 'mlp_fraction_of_removed',
                'n': sum(repair_mlp),
                'd': sum(removed),
                'nn': sum(repair_mlp * repair_mlp),
                'nd': sum(repair_mlp * removed),
                'dd': sum(removed * removed)
            },
            {
                'estimate': 'total_fraction_of_removed',
                'n': sum(self_repair),
                'd': sum(removed),
                'nn': sum(self_repair * self_repair),
                'nd': sum(self_repair * removed),
                'dd': sum(removed * removed)
            }
        ] AS of_estimates
    FROM prompt_effects
    GROUP BY run_id, ablation, population, level, layer, head
),
estimate_moments AS (
    SELECT * EXCLUDE (of_estimates), unnest(of_estimates, recursive := true)
    FROM moments
),
totals AS (
    SELECT
        * EXCLUDE (n, d, nn, nd, dd),
        n_prompts - 1 AS freedom,
        nullif(round(d, 4), 0) AS divisor,
        round(n, 9) / divisor AS value,
        nn - 2 * value * nd + value * value * dd AS squares
    FROM estimate_moments
),
errors AS (
    SELECT
        *,
        sqrt(greatest(0, squares) * n_prompts / nullif(freedom, 0)) / abs(divisor) AS standard_error,
        CASE freedom
            WHEN 1 THEN 12.706204736174694
            WHEN 2 THEN 4.302652729749462
            ELSE
                1.959963984540054 + 2.372271230298562 / freedom + 2.8224986157396112 / freedom ** 2
                + 2.555849679507722 / freedom ** 3 + 1.5895340533938225 / freedom ** 4
        END * standard_error AS half_width
    FROM totals
),
heads AS (
    SELECT DISTINCT run_id, ablation, population, layer, head
    FROM prompt_sums
),
head_numbers AS (
    SELECT run_id, ablation, population, layer, head, count(*) AS n_heads
    FROM heads
    GROUP BY GROUPING SETS (
        (run_id, ablation, population, layer, head),
        (run_id, ablation, population, layer),
        (run_id, ablation, population)
    )
)
SELECT
    errors.run_id,
    errors.ablation,
    errors.population,
    errors.level,
    errors.layer,
    errors.head,
    errors.estimate,
    head_numbers.n_heads,
    errors.n_prompts,
    errors.n_rows,
    errors.undefined_ratios,
    errors.value,
    errors.standard_error,
    errors.value - errors.half_width AS low,
    errors.value + errors.half_width AS high
FROM errors
INNER JOIN head_numbers
    ON head_numbers.run_id = errors.run_id
    AND head_numbers.ablation = errors.ablation
    AND head_numbers.population = errors.population
    AND head_numbers.layer IS NOT DISTINCT FROM errors.layer
    AND head_numbers.head IS NOT DISTINCT FROM errors.head
