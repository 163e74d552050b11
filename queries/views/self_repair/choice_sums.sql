-- Building block: sums from which fractions of direct effect and their intervals follow, for every size of the top.
--
-- Grain: run_id, ablation, population, level, layer, head, estimate
-- Paper: section 3 (top 2 % of tokens by direct effect)
-- Kept: stage
--
-- n and d are of all rows; squares and products are of the sampled clusters (sampled_clusters), each standing for several, with
-- the correction for the cut that cluster_sums describes. Around a cut are the rows between the next smaller and the next larger
-- top: for the top 10 %, between 5 and 20 %. What cluster_sums has of populations all, top2 and top2_nobos is not here.
--
-- Columns:
--   population VARCHAR: Rows used: 'top0.5' to 'top50', the share [%] with the highest clean direct_effect, or 'all'; with
--     '_nobos', of the positions after the first one
--   level VARCHAR: What a row describes: 'head', or 'model' (layer and head are NULL)
--   estimate VARCHAR: What n / d is: 'total_fraction_of_effect', 'clipped_total_fraction' or, not clipped, 'mean_total_ratio',
--     and the same of 'layernorm', 'attention', 'mlp' and 'post_norm'
--   is_fraction BOOLEAN: True: of an effect, and so with Fieller's interval
--   n_heads BIGINT: Measured heads whose rows are pooled [heads]
--   n_clusters BIGINT: Clusters of the run (prompt_clusters), which the sampled ones stand for [clusters]
--   n_rows BIGINT: Rows that n and d cover [rows]
--   undefined_ratios BIGINT: Rows with direct_effect = 0, which have no ratio [rows]
--   n DOUBLE: Sum of the numerator; NULL: of 'post_norm' in a model without post-norms [logits or ratio]
--   d DOUBLE: Sum of the divisor [logits or rows]
--   nn DOUBLE: Sum over clusters of the square of the numerator
--   nd DOUBLE: Sum over clusters of numerator * divisor
--   dd DOUBLE: Sum over clusters of the square of the divisor
--   nnn DOUBLE: Sum over clusters of numerator^3
--   nnd DOUBLE: Sum over clusters of numerator^2 * divisor
--   ndd DOUBLE: Sum over clusters of numerator * divisor^2
--   ddd DOUBLE: Sum over clusters of divisor^3
--   nnnn DOUBLE: Sum over clusters of numerator^4
--   nnnd DOUBLE: Sum over clusters of numerator^3 * divisor
--   nndd DOUBLE: Sum over clusters of numerator^2 * divisor^2
--   nddd DOUBLE: Sum over clusters of numerator * divisor^3
--   dddd DOUBLE: Sum over clusters of divisor^4

WITH populations AS (
    SELECT
        *,
        CASE top_percent WHEN 100 THEN 'all' ELSE 'top' || replace(CAST(top_percent AS VARCHAR), '.0', '') END
            || CASE WHEN with_first THEN '' ELSE '_nobos' END AS population
    FROM cut_neighbours
),
stretches AS (
    SELECT
        stretch_sums.run_id,
        ablation,
        layer,
        head,
        cluster_id,
        is_first,
        n_cuts_above,
        CAST(n_rows AS DOUBLE) AS sum_n_rows,
        CAST(undefined_ratios AS DOUBLE) AS sum_undefined_ratios,
        COLUMNS('^sum_(direct_effect|self_repair|(repair_|clipped_)?(layernorm|attention|mlp|total)(_ratio)?)$'),
        -- NULL, and never 0, in a model without post-norms
        sum_repair_post_norm AS maybe_repair_post_norm,
        coalesce(sum_clipped_post_norm, 0 * sum_repair_post_norm) AS maybe_clipped_post_norm,
        coalesce(sum_post_norm_ratio, 0 * sum_repair_post_norm) AS maybe_post_norm_ratio
    FROM stretch_sums
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
),
head_stretches AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        is_first,
        n_cuts_above,
        coalesce(sum(COLUMNS('^sum_')), 0) AS '\0',
        sum(COLUMNS('^maybe_(.*)')) AS 'sum_\1'
    FROM stretches
    GROUP BY run_id, ablation, layer, head, is_first, n_cuts_above
),
at_cut AS (
    SELECT run_id, ablation, population, layer, head, sum(COLUMNS('^sum_(.*)')) / sum(sum_n_rows) AS '\1'
    FROM head_stretches
    INNER JOIN populations USING (run_id, layer, head)
    WHERE
        (n_cuts_above >= number_before OR is_one_row)
        AND n_cuts_above < number_after
        AND (with_first OR NOT is_first)
    GROUP BY run_id, ablation, population, layer, head
),
head_tops AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        1 AS n_heads,
        CAST(sum(sum_n_rows) AS BIGINT) AS n_rows,
        CAST(sum(sum_undefined_ratios) AS BIGINT) AS undefined_ratios,
        sum(sum_n_rows - sum_undefined_ratios) AS of_ratios,
        sum(COLUMNS('^sum_(direct_effect|repair_.*|self_repair|clipped_.*|.*_ratio)$')) AS 'of_\1'
    FROM head_stretches
    INNER JOIN populations USING (run_id, layer, head)
    WHERE n_cuts_above < cut_number AND (with_first OR NOT is_first)
    GROUP BY run_id, ablation, population, layer, head
),
sampled_stretches AS MATERIALIZED (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        cluster_id,
        is_first,
        n_cuts_above,
        any_value(n_clusters / n_sampled) AS weight,
        coalesce(sum(COLUMNS('^sum_')), 0) AS '\0',
        sum(COLUMNS('^maybe_(.*)')) AS 'sum_\1'
    FROM stretches
    INNER JOIN sampled_clusters USING (run_id, cluster_id)
    GROUP BY run_id, ablation, layer, head, cluster_id, is_first, n_cuts_above
),
tops AS (
    SELECT run_id, ablation, population, layer, head, cluster_id, sum(COLUMNS('^sum_(.*)')) AS '\1'
    FROM sampled_stretches
    INNER JOIN populations USING (run_id, layer, head)
    WHERE n_cuts_above < cut_number AND (with_first OR NOT is_first)
    GROUP BY run_id, ablation, population, layer, head, cluster_id
),
wholes AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        cluster_id,
        any_value(weight) AS weight,
        sum(sum_n_rows) AS n_rows,
        coalesce(sum(sum_n_rows) FILTER (is_first), 0) AS n_first
    FROM sampled_stretches
    GROUP BY run_id, ablation, layer, head, cluster_id
),
excesses AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        weight,
        cut_effect,
        coalesce(tops.n_rows, 0) - top_share * (wholes.n_rows - CASE WHEN with_first THEN 0 ELSE n_first END) AS excess
    FROM wholes
    INNER JOIN populations USING (run_id, layer, head)
    LEFT JOIN tops USING (run_id, ablation, population, layer, head, cluster_id)
    WHERE with_first OR wholes.n_rows > n_first
),
cluster_tops AS MATERIALIZED (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        weight,
        less_at_cut(tops.n_rows - tops.undefined_ratios, at_cut.n_rows - at_cut.undefined_ratios, excess) AS of_ratios,
        coalesce(tops.direct_effect, 0) - cut_effect * excess AS of_direct_effect,
        less_at_cut(tops.repair_layernorm, at_cut.repair_layernorm, excess) AS of_repair_layernorm,
        less_at_cut(tops.repair_attention, at_cut.repair_attention, excess) AS of_repair_attention,
        less_at_cut(tops.repair_mlp, at_cut.repair_mlp, excess) AS of_repair_mlp,
        less_at_cut(tops.repair_post_norm, at_cut.repair_post_norm, excess) AS of_repair_post_norm,
        less_at_cut(tops.self_repair, at_cut.self_repair, excess) AS of_self_repair,
        less_at_cut(tops.layernorm_ratio, at_cut.layernorm_ratio, excess) AS of_layernorm_ratio,
        less_at_cut(tops.attention_ratio, at_cut.attention_ratio, excess) AS of_attention_ratio,
        less_at_cut(tops.mlp_ratio, at_cut.mlp_ratio, excess) AS of_mlp_ratio,
        less_at_cut(tops.post_norm_ratio, at_cut.post_norm_ratio, excess) AS of_post_norm_ratio,
        less_at_cut(tops.total_ratio, at_cut.total_ratio, excess) AS of_total_ratio,
        less_at_cut(tops.clipped_layernorm, at_cut.clipped_layernorm, excess) AS of_clipped_layernorm,
        less_at_cut(tops.clipped_attention, at_cut.clipped_attention, excess) AS of_clipped_attention,
        less_at_cut(tops.clipped_mlp, at_cut.clipped_mlp, excess) AS of_clipped_mlp,
        less_at_cut(tops.clipped_post_norm, at_cut.clipped_post_norm, excess) AS of_clipped_post_norm,
        less_at_cut(tops.clipped_total, at_cut.clipped_total, excess) AS of_clipped_total
    FROM excesses
    LEFT JOIN tops USING (run_id, ablation, population, layer, head, cluster_id)
    LEFT JOIN at_cut USING (run_id, ablation, population, layer, head)
),
-- what is left of a head's totals without the sampled clusters, so that n and d are of all rows
signed AS (
    SELECT *
    FROM head_tops
    UNION ALL BY NAME
    SELECT run_id, ablation, population, layer, head, -COLUMNS('^of_') AS '\0'
    FROM cluster_tops
),
rests AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        -1 AS cluster_id,
        0 AS weight,
        sum(n_heads) AS n_heads,
        sum(n_rows) AS n_rows,
        sum(undefined_ratios) AS undefined_ratios,
        sum(COLUMNS('^of_')) AS '\0'
    FROM signed
    GROUP BY run_id, ablation, population, layer, head
),
heads AS (
    SELECT *
    FROM cluster_tops
    UNION ALL BY NAME
    SELECT *
    FROM rests
),
levels AS (
    SELECT *, 'head' AS level
    FROM heads
    UNION ALL BY NAME
    SELECT
        run_id,
        ablation,
        population,
        cluster_id,
        'model' AS level,
        any_value(weight) AS weight,
        sum(n_heads) AS n_heads,
        sum(n_rows) AS n_rows,
        sum(undefined_ratios) AS undefined_ratios,
        sum(COLUMNS('^of_')) AS '\0'
    FROM heads
    GROUP BY run_id, ablation, population, cluster_id
),
sums AS (
    SELECT
        run_id,
        ablation,
        population,
        level,
        layer,
        head,
        CAST(sum(n_heads) AS BIGINT) AS n_heads,
        CAST(round(sum(weight)) AS BIGINT) AS n_clusters,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
        unnest(
            [
                ratio_sums('mean_layernorm_ratio', false, of_layernorm_ratio, of_ratios, weight),
                ratio_sums('mean_attention_ratio', false, of_attention_ratio, of_ratios, weight),
                ratio_sums('mean_mlp_ratio', false, of_mlp_ratio, of_ratios, weight),
                ratio_sums('mean_post_norm_ratio', false, of_post_norm_ratio, of_ratios, weight),
                ratio_sums('mean_total_ratio', false, of_total_ratio, of_ratios, weight),
                ratio_sums('clipped_layernorm_fraction', false, of_clipped_layernorm, of_ratios, weight),
                ratio_sums('clipped_attention_fraction', false, of_clipped_attention, of_ratios, weight),
                ratio_sums('clipped_mlp_fraction', false, of_clipped_mlp, of_ratios, weight),
                ratio_sums('clipped_post_norm_fraction', false, of_clipped_post_norm, of_ratios, weight),
                ratio_sums('clipped_total_fraction', false, of_clipped_total, of_ratios, weight),
                ratio_sums('layernorm_fraction_of_effect', true, of_repair_layernorm, of_direct_effect, weight),
                ratio_sums('attention_fraction_of_effect', true, of_repair_attention, of_direct_effect, weight),
                ratio_sums('mlp_fraction_of_effect', true, of_repair_mlp, of_direct_effect, weight),
                ratio_sums('post_norm_fraction_of_effect', true, of_repair_post_norm, of_direct_effect, weight),
                ratio_sums('total_fraction_of_effect', true, of_self_repair, of_direct_effect, weight)
            ],
            recursive := true
        )
    FROM levels
    GROUP BY run_id, ablation, population, level, layer, head
)
SELECT *
FROM sums
WHERE population NOT IN ('all', 'top2', 'top2_nobos') OR ends_with(estimate, '_ratio')
