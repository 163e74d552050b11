-- Building block: sums over a cluster's rows, for each head and population: what intervals are made of.
--
-- Grain: run_id, ablation, population, layer, head, cluster_id
-- Paper: section 3
-- Kept: stage
--
-- A cluster is a document, with all prompts that begin in it: rows of one document are correlated. Where no two prompts
-- of a run share a document, a cluster is a prompt. Rows that repeat an earlier prompt's are in the cluster of that prompt.
--
-- The top 2 % is itself estimated: another sample of documents has another cut, and which documents have many rows above
-- it varies together with everything that is summed over these rows. So, in top2 and top2_nobos, each sum x of a cluster
-- is less m * (its rows in the top - share of the top * its rows), where m is the mean of x over the head's rows between
-- 1.4 and 2.6 %, around the cut (in a top of one row, that row), and for direct_effect the cut itself. Summed over all clusters of a head that takes
-- nothing away; what is left varies between clusters as the estimate does between samples. Population all has no cut.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows whatever the ablation); 'top2_nobos', the same of the positions after the first one
--   cluster_id INTEGER: The document of the cluster's prompts: prompts.document_id
--   n_prompts BIGINT: Prompts of the cluster, by prompt_clusters [prompts]
--   top_rows DOUBLE: Rows of the cluster that the numbers cover [rows]
--   n_rows DOUBLE: These rows, less the correction [rows]
--   n_ratios DOUBLE: Those with direct_effect <> 0, which have a clipped fraction, less the correction [rows]
--   undefined_ratios DOUBLE: Rows with direct_effect = 0, which have no clipped fraction [rows]
--   repaired_rows DOUBLE: Rows with self_repair > 0, less the correction [rows]
--   overrepaired_rows DOUBLE: Rows with self_repair > direct_effect, less the correction [rows]
--   larger_frozen_rows DOUBLE: Rows whose logit_change would be larger in size with the final norm's scale frozen, less
--     the correction [rows]
--   direct_effect DOUBLE: Sum of direct_effect, less the correction [logits]
--   ablated_direct_effect DOUBLE: Sum of ablated_direct_effect, less the correction [logits]
--   logit_change DOUBLE: Sum of logit_change, less the correction [logits]
--   repair_layernorm DOUBLE: Sum of repair_layernorm, less the correction [logits]
--   repair_attention DOUBLE: Sum of repair_attention, less the correction [logits]
--   repair_mlp DOUBLE: Sum of repair_mlp, less the correction [logits]
--   repair_post_norm DOUBLE: Sum of repair_post_norm, less the correction; NULL: the model has no post-norms [logits]
--   ln_scale_ratio DOUBLE: Sum of ln_scale_ratio, less the correction [ratio]
--   clipped_layernorm DOUBLE: Sum of the rows' clipped fraction of repair_layernorm, less the correction [ratio]
--   clipped_attention DOUBLE: Sum of the rows' clipped fraction of repair_attention, less the correction [ratio]
--   clipped_mlp DOUBLE: Sum of the rows' clipped fraction of repair_mlp, less the correction [ratio]
--   clipped_post_norm DOUBLE: Sum of the rows' clipped fraction of repair_post_norm, less the correction; NULL: the model
--     has no post-norms [ratio]
--   clipped_total DOUBLE: Sum of the rows' clipped fraction of self_repair, less the correction [ratio]

WITH populations AS (
    SELECT *, CASE WHEN with_first THEN 'top2' ELSE 'top2_nobos' END AS population
    FROM cut_neighbours
    WHERE top_percent = 2
),
stretches AS (
    SELECT
        stretch_sums.run_id,
        ablation,
        layer,
        head,
        coalesce(repeated_cluster_id, document_id) AS cluster_id,
        CASE WHEN prompt_clusters.cluster_id = coalesce(repeated_cluster_id, document_id) THEN prompt_id END
            AS counted_prompt_id,
        is_first,
        n_cuts_above,
        CAST(n_rows AS DOUBLE) AS sum_n_rows,
        CAST(n_rows - undefined_ratios AS DOUBLE) AS sum_n_ratios,
        CAST(undefined_ratios AS DOUBLE) AS sum_undefined_ratios,
        CAST(repaired_rows AS DOUBLE) AS sum_repaired_rows,
        CAST(overrepaired_rows AS DOUBLE) AS sum_overrepaired_rows,
        CAST(larger_frozen_rows AS DOUBLE) AS sum_larger_frozen_rows,
        COLUMNS('^sum_.*(effect|change|layernorm|attention|mlp|total|ln_scale_ratio)$'),
        -- NULL, and never 0, in a model without post-norms
        sum_repair_post_norm AS maybe_repair_post_norm,
        coalesce(sum_clipped_post_norm, 0 * sum_repair_post_norm) AS maybe_clipped_post_norm
    FROM stretch_sums
    INNER JOIN prompts USING (run_id, prompt_id)
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
),
whole_clusters AS (
    SELECT
        run_id,
        ablation,
        layer,
        head,
        cluster_id,
        count(DISTINCT counted_prompt_id) AS n_prompts,
        coalesce(sum(sum_n_rows) FILTER (is_first), 0) AS n_first,
        coalesce(sum(COLUMNS('^sum_(.*)')), 0) AS '\1',
        sum(COLUMNS('^maybe_(.*)')) AS '\1'
    FROM stretches
    GROUP BY run_id, ablation, layer, head, cluster_id
),
near_top AS (
    SELECT
        stretches.*,
        population,
        n_cuts_above < cut_number AS is_top,
        n_cuts_above >= number_before OR is_one_row AS is_near_cut
    FROM stretches
    INNER JOIN populations USING (run_id, layer, head)
    WHERE n_cuts_above < number_after AND (with_first OR NOT is_first)
),
tops AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        coalesce(sum(COLUMNS('^sum_(.*)')), 0) AS '\1',
        sum(COLUMNS('^maybe_(.*)')) AS '\1'
    FROM near_top
    WHERE is_top
    GROUP BY run_id, ablation, population, layer, head, cluster_id
),
at_cut AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        coalesce(sum(COLUMNS('^sum_(.*)')), 0) / sum(sum_n_rows) AS '\1',
        sum(COLUMNS('^maybe_(.*)')) / sum(sum_n_rows) AS '\1'
    FROM near_top
    WHERE is_near_cut
    GROUP BY run_id, ablation, population, layer, head
),
excesses AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        n_prompts,
        cut_effect,
        coalesce(tops.n_rows, 0) AS top_rows,
        top_rows - top_share * (whole_clusters.n_rows - CASE WHEN with_first THEN 0 ELSE n_first END) AS excess
    FROM whole_clusters
    INNER JOIN populations USING (run_id, layer, head)
    LEFT JOIN tops USING (run_id, ablation, population, layer, head, cluster_id)
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    cluster_id,
    n_prompts,
    top_rows,
    top_rows - excess AS n_rows,
    less_at_cut(tops.n_ratios, at_cut.n_ratios, excess) AS n_ratios,
    coalesce(tops.undefined_ratios, 0) AS undefined_ratios,
    less_at_cut(tops.repaired_rows, at_cut.repaired_rows, excess) AS repaired_rows,
    less_at_cut(tops.overrepaired_rows, at_cut.overrepaired_rows, excess) AS overrepaired_rows,
    less_at_cut(tops.larger_frozen_rows, at_cut.larger_frozen_rows, excess) AS larger_frozen_rows,
    coalesce(tops.direct_effect, 0) - cut_effect * excess AS direct_effect,
    less_at_cut(tops.ablated_direct_effect, at_cut.ablated_direct_effect, excess) AS ablated_direct_effect,
    less_at_cut(tops.logit_change, at_cut.logit_change, excess) AS logit_change,
    less_at_cut(tops.repair_layernorm, at_cut.repair_layernorm, excess) AS repair_layernorm,
    less_at_cut(tops.repair_attention, at_cut.repair_attention, excess) AS repair_attention,
    less_at_cut(tops.repair_mlp, at_cut.repair_mlp, excess) AS repair_mlp,
    less_at_cut(tops.repair_post_norm, at_cut.repair_post_norm, excess) AS repair_post_norm,
    less_at_cut(tops.ln_scale_ratio, at_cut.ln_scale_ratio, excess) AS ln_scale_ratio,
    less_at_cut(tops.clipped_layernorm, at_cut.clipped_layernorm, excess) AS clipped_layernorm,
    less_at_cut(tops.clipped_attention, at_cut.clipped_attention, excess) AS clipped_attention,
    less_at_cut(tops.clipped_mlp, at_cut.clipped_mlp, excess) AS clipped_mlp,
    less_at_cut(tops.clipped_post_norm, at_cut.clipped_post_norm, excess) AS clipped_post_norm,
    less_at_cut(tops.clipped_total, at_cut.clipped_total, excess) AS clipped_total
FROM excesses
LEFT JOIN tops USING (run_id, ablation, population, layer, head, cluster_id)
LEFT JOIN at_cut USING (run_id, ablation, population, layer, head)
UNION ALL BY NAME
SELECT * EXCLUDE (n_first), 'all' AS population, n_rows AS top_rows
FROM whole_clusters
