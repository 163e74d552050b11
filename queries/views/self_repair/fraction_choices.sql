-- Building block: self-repair / direct effect with its interval, by every top, average and part.
--
-- Grain: run_id, ablation, level, layer, head, part, with_first, top_percent, average, clipped
-- Paper: section 3 (Figure 1)
-- Kept: mart
--
-- `repair_sensitivity` says how each fraction is defined, and has the ratio of means clipped, too.
--
-- Columns:
--   level VARCHAR: What a row describes: 'head', or 'model' (layer and head are NULL)
--   part VARCHAR: Which repair: 'layernorm', 'attention', 'mlp', 'post_norm' (of models that have post-norms), or 'total' for
--     self_repair, their sum
--   with_first BOOLEAN: True: the top is of all positions; False: of those after the first one of a prompt
--   top_percent DOUBLE: Share of each head's rows that are used, those with the highest direct_effect [%]
--   average VARCHAR: 'mean of ratios' or 'ratio of means'
--   clipped BOOLEAN: True: clipped to [0, 1]
--   fraction DOUBLE: Repair / direct effect of the part; NULL where the divisor is 0 [ratio]
--   is_unbounded BOOLEAN: True: fraction has no interval, because what it divides by is not told from 0: the mean direct
--     effect; or of a mean of ratios that are not clipped, the lowest one of the top, below 5 % of that at the 0.5 % cut

WITH kinds AS (
    SELECT
        part,
        unnest([
            {'estimate': 'mean_' || part || '_ratio', 'average': 'mean of ratios', 'clipped': false},
            {'estimate': 'clipped_' || part || '_fraction', 'average': 'mean of ratios', 'clipped': true},
            {'estimate': part || '_fraction_of_effect', 'average': 'ratio of means', 'clipped': false}
        ], recursive := true)
    FROM (SELECT unnest(['layernorm', 'attention', 'mlp', 'post_norm', 'total']) AS part) AS parts
),
tops AS (
    SELECT
        *,
        cut_effect <= 0.05 * max(cut_effect) OVER (PARTITION BY run_id, layer, head, with_first) AS is_near_zero
    FROM top_cuts
),
reaches AS (
    SELECT run_id, layer, head, with_first, top_percent, bool_or(is_near_zero) AS reaches_zero
    FROM tops
    GROUP BY GROUPING SETS ((run_id, layer, head, with_first, top_percent), (run_id, with_first, top_percent))
),
fractions AS (
    SELECT
        *,
        NOT ends_with(population, '_nobos') AS of_all_positions,
        CASE
            WHEN starts_with(population, 'all') THEN 100
            ELSE CAST(regexp_extract(population, '[0-9.]+') AS DOUBLE)
        END AS percent
    FROM repair_estimates
    INNER JOIN kinds USING (estimate)
    WHERE level <> 'layer'
),
bounds AS (
    SELECT
        fractions.*,
        with_first,
        top_percent,
        fractions.is_unbounded OR (average = 'mean of ratios' AND NOT clipped AND reaches_zero) AS has_no_bounds
    FROM fractions
    INNER JOIN reaches
        ON reaches.run_id = fractions.run_id
        AND reaches.layer IS NOT DISTINCT FROM fractions.layer
        AND reaches.head IS NOT DISTINCT FROM fractions.head
        AND reaches.with_first = of_all_positions
        AND reaches.top_percent = percent
)
SELECT
    run_id,
    ablation,
    level,
    layer,
    head,
    part,
    with_first,
    top_percent,
    average,
    clipped,
    value AS fraction,
    CASE WHEN NOT has_no_bounds THEN low END AS fraction_low,
    CASE WHEN NOT has_no_bounds THEN high END AS fraction_high,
    has_no_bounds AS is_unbounded,
    n_clusters,
    n_rows,
    undefined_ratios
FROM bounds
ORDER BY run_id, ablation, level, layer, head
