-- Building block: sums over a cluster's rows, for each head and population: what intervals are made of.
--
-- Grain: run_id, ablation, population, layer, head, cluster_id
-- Paper: section 3
-- Kept: stage
--
-- A cluster is a document, with all prompts that begin in it: rows of one document are correlated. Where no two prompts
-- of a run share a document, a cluster is a prompt. Rows that repeat an earlier prompt's are in the cluster of that prompt.
--
-- A top is itself estimated: another sample of documents has another cut, and which documents have many rows above it
-- varies together with everything that is summed over these rows. So each sum x of a cluster is less m * (its rows in the
-- top - share of the top * its rows), where m is the mean of x over the head's rows between the next smaller and the next
-- larger top, around the cut (for the top 2 %, between 1.4 and 2.6 %; in a top of one row, that row), and for direct_effect
-- the cut itself. Summed over all clusters of a head that takes nothing away; what is left varies between clusters as the
-- estimate does between samples. All rows have no cut.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows whatever the ablation), and so 'top0.5' to 'top50'; with '_nobos', the same of the positions after the first
--     one
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
--   ln_scale_ratio DOUBLE: Sum of ln_scale_ratio, less the correction [ratio]
--   clipped_layernorm DOUBLE: Sum of the rows' clipped fraction of repair_layernorm, less the correction [ratio]
--   clipped_attention DOUBLE: Sum of the rows' clipped fraction of repair_attention, less the correction [ratio]
--   clipped_mlp DOUBLE: Sum of the rows' clipped fraction of repair_mlp, less the correction [ratio]
--   clipped_total DOUBLE: Sum of the rows' clipped fraction of self_repair, less the correction [ratio]
--   layernorm_ratio DOUBLE: Sum of the rows' repair_layernorm / direct_effect, less the correction [ratio]
--   attention_ratio DOUBLE: Sum of the rows' repair_attention / direct_effect, less the correction [ratio]
--   mlp_ratio DOUBLE: Sum of the rows' repair_mlp / direct_effect, less the correction [ratio]
--   total_ratio DOUBLE: Sum of the rows' self_repair / direct_effect, less the correction [ratio]

WITH cuts AS (
    SELECT
        *,
        lag(cut_number, 1, 0) OVER tops AS number_before,
        lead(cut_number, 1, 127) OVER tops AS number_after,
        coalesce(lag(n_top) OVER tops = coalesce(lead(n_top) OVER tops, n_top), false) AS is_one_row,
        n_top / max(n_top) OVER (PARTITION BY run_id, layer, head, with_first) AS top_share
    FROM top_cuts
    WINDOW tops AS (PARTITION BY run_id, layer, head, with_first ORDER BY top_percent)
),
populations AS (
    SELECT
        *,
        CASE top_percent WHEN 100 THEN 'all' ELSE 'top' || replace(CAST(top_percent AS VARCHAR), '.0', '') END
            || CASE WHEN with_first THEN '' ELSE '_nobos' END AS population
    FROM cuts
    WHERE top_percent NOT IN (1.4, 2.6)
),
cluster_stretches AS MATERIALIZED (
    SELECT
        stretch_sums.run_id,
        ablation,
        layer,
        head,
        coalesce(repeated_cluster_id, document_id) AS cluster_id,
        is_first,
        n_cuts_above,
        CAST(sum(n_rows) AS DOUBLE) AS sum_n_rows,
        CAST(sum(n_rows - undefined_ratios) AS DOUBLE) AS sum_n_ratios,
        CAST(sum(undefined_ratios) AS DOUBLE) AS sum_undefined_ratios,
        CAST(sum(repaired_rows) AS DOUBLE) AS sum_repaired_rows,
        CAST(sum(overrepaired_rows) AS DOUBLE) AS sum_overrepaired_rows,
        CAST(sum(larger_frozen_rows) AS DOUBLE) AS sum_larger_frozen_rows,
        coalesce(sum(COLUMNS('^sum_.*(effect|change|layernorm|attention|mlp|total|ratio)$')), 0) AS '\0'
    FROM stretch_sums
    INNER JOIN prompts USING (run_id, prompt_id)
    GROUP BY ALL
),
cluster_prompts AS (
    SELECT run_id, ablation, layer, head, cluster_id, count(DISTINCT prompt_id) AS n_prompts
    FROM stretch_sums
    INNER JOIN prompt_clusters USING (run_id, prompt_id)
    GROUP BY run_id, ablation, layer, head, cluster_id
),
head_stretches AS (
    SELECT run_id, ablation, layer, head, is_first, n_cuts_above, sum(COLUMNS('^sum_')) AS '\0'
    FROM cluster_stretches
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
tops AS MATERIALIZED (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        cluster_id,
        with_first,
        top_percent = 100 AS is_whole,
        sum(COLUMNS('^sum_(.*)')) AS '\1'
    FROM cluster_stretches
    INNER JOIN populations USING (run_id, layer, head)
    WHERE n_cuts_above < cut_number AND (with_first OR NOT is_first)
    GROUP BY ALL
),
expected AS (
    SELECT
        populations.run_id,
        tops.ablation,
        populations.population,
        populations.layer,
        populations.head,
        cluster_id,
        cut_effect,
        top_share * tops.n_rows AS rows_expected
    FROM tops
    INNER JOIN populations USING (run_id, layer, head, with_first)
    WHERE is_whole
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    cluster_id,
    coalesce(n_prompts, 0) AS n_prompts,
    coalesce(tops.n_rows, 0) AS top_rows,
    rows_expected AS n_rows,
    less_at_cut(tops.n_ratios, at_cut.n_ratios, top_rows - rows_expected) AS n_ratios,
    coalesce(tops.undefined_ratios, 0) AS undefined_ratios,
    less_at_cut(tops.repaired_rows, at_cut.repaired_rows, top_rows - rows_expected) AS repaired_rows,
    less_at_cut(tops.overrepaired_rows, at_cut.overrepaired_rows, top_rows - rows_expected) AS overrepaired_rows,
    less_at_cut(tops.larger_frozen_rows, at_cut.larger_frozen_rows, top_rows - rows_expected) AS larger_frozen_rows,
    coalesce(tops.direct_effect, 0) - cut_effect * (top_rows - rows_expected) AS direct_effect,
    less_at_cut(tops.ablated_direct_effect, at_cut.ablated_direct_effect, top_rows - rows_expected) AS ablated_direct_effect,
    less_at_cut(tops.logit_change, at_cut.logit_change, top_rows - rows_expected) AS logit_change,
    less_at_cut(tops.repair_layernorm, at_cut.repair_layernorm, top_rows - rows_expected) AS repair_layernorm,
    less_at_cut(tops.repair_attention, at_cut.repair_attention, top_rows - rows_expected) AS repair_attention,
    less_at_cut(tops.repair_mlp, at_cut.repair_mlp, top_rows - rows_expected) AS repair_mlp,
    less_at_cut(tops.ln_scale_ratio, at_cut.ln_scale_ratio, top_rows - rows_expected) AS ln_scale_ratio,
    less_at_cut(tops.clipped_layernorm, at_cut.clipped_layernorm, top_rows - rows_expected) AS clipped_layernorm,
    less_at_cut(tops.clipped_attention, at_cut.clipped_attention, top_rows - rows_expected) AS clipped_attention,
    less_at_cut(tops.clipped_mlp, at_cut.clipped_mlp, top_rows - rows_expected) AS clipped_mlp,
    less_at_cut(tops.clipped_total, at_cut.clipped_total, top_rows - rows_expected) AS clipped_total,
    less_at_cut(tops.layernorm_ratio, at_cut.layernorm_ratio, top_rows - rows_expected) AS layernorm_ratio,
    less_at_cut(tops.attention_ratio, at_cut.attention_ratio, top_rows - rows_expected) AS attention_ratio,
    less_at_cut(tops.mlp_ratio, at_cut.mlp_ratio, top_rows - rows_expected) AS mlp_ratio,
    less_at_cut(tops.total_ratio, at_cut.total_ratio, top_rows - rows_expected) AS total_ratio
FROM expected
INNER JOIN at_cut USING (run_id, ablation, population, layer, head)
LEFT JOIN tops USING (run_id, ablation, population, layer, head, cluster_id)
LEFT JOIN cluster_prompts USING (run_id, ablation, layer, head, cluster_id)
