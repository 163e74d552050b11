-- Building block: self-repair of every head where the logit lens after its layer is top-1 correct, and where it is
-- wrong.
--
-- Grain: run_id, ablation, population, layer, head
-- Paper: section 6 (iterative inference)
-- Kept: mart
--
-- `repair_by_logit_lens` says how each number is defined. Standard errors are NULL for a single cluster.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows for every ablation)
--   n_right BIGINT: Rows where the logit lens after the head's layer is top-1 correct: the target is the most likely
--     token [rows]
--   n_wrong BIGINT: Rows where the logit lens after the head's layer is wrong: another token is more likely than the
--     target [rows]
--   mean_self_repair_right DOUBLE: Mean of self_repair where it is correct; NULL: there are no such rows [logits]
--   mean_self_repair_wrong DOUBLE: Mean of self_repair where it is wrong; NULL: there are no such rows [logits]
--   mean_direct_effect_right DOUBLE: Mean of direct_effect where it is correct; NULL: there are no such rows [logits]
--   mean_direct_effect_wrong DOUBLE: Mean of direct_effect where it is wrong; NULL: there are no such rows [logits]
--   self_repair_difference DOUBLE: mean_self_repair_wrong - mean_self_repair_right; > 0: self-repair is higher where
--     the logit lens is still wrong; NULL where one of them is [logits]

WITH effects AS (
    SELECT run_id, ablation, 'all' AS population, layer, head, prompt_id, pos, direct_effect, self_repair
    FROM repair_rows
    UNION ALL
    SELECT run_id, ablation, 'top2' AS population, layer, head, prompt_id, pos, direct_effect, self_repair
    FROM ranked_top_rows
),
-- of each cluster: number of rows, effect e and repair r, where the answer is right and where it is wrong
cluster_totals AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        CAST(count(*) FILTER (rank = 1) AS DOUBLE) AS n_right,
        CAST(count(*) FILTER (rank > 1) AS DOUBLE) AS n_wrong,
        coalesce(round(sum(direct_effect) FILTER (rank = 1), 4), 0) AS e_right,
        coalesce(round(sum(direct_effect) FILTER (rank > 1), 4), 0) AS e_wrong,
        coalesce(round(sum(self_repair) FILTER (rank = 1), 4), 0) AS r_right,
        coalesce(round(sum(self_repair) FILTER (rank > 1), 4), 0) AS r_wrong
    FROM effects
    INNER JOIN logit_lens USING (run_id, prompt_id, pos, layer)
    INNER JOIN prompts USING (run_id, prompt_id)
    LEFT JOIN repeated_rows USING (run_id, prompt_id, pos)
    GROUP BY run_id, ablation, population, layer, head, coalesce(cluster_id, document_id)
),
sums AS (
    SELECT
        run_id,
        ablation,
        population,
        layer,
        head,
        count(*) AS n_clusters,
        count(*) FILTER (n_right > 0) AS n_clusters_right,
        count(*) FILTER (n_wrong > 0) AS n_clusters_wrong,
        nullif(sum(n_right), 0) AS n_right,
        nullif(sum(n_wrong), 0) AS n_wrong,
        round(sum(e_right), 4) / nullif(sum(n_right), 0) AS e_right,
        round(sum(e_wrong), 4) / nullif(sum(n_wrong), 0) AS e_wrong,
        round(sum(r_right), 4) / nullif(sum(n_right), 0) AS r_right,
        round(sum(r_wrong), 4) / nullif(sum(n_wrong), 0) AS r_wrong,
        sum(n_right * n_right) AS nn_right,
        sum(n_wrong * n_wrong) AS nn_wrong,
        sum(n_right * n_wrong) AS nn_both,
        sum(e_right * n_right) AS en_right,
        sum(e_wrong * n_wrong) AS en_wrong,
        sum(e_right * e_right) AS ee_right,
        sum(e_wrong * e_wrong) AS ee_wrong,
        sum(r_right * n_right) AS rn_right,
        sum(r_wrong * n_wrong) AS rn_wrong,
        sum(r_right * n_wrong) AS rn_right_wrong,
        sum(r_wrong * n_right) AS rn_wrong_right,
        sum(r_right * r_right) AS rr_right,
        sum(r_wrong * r_wrong) AS rr_wrong,
        sum(r_right * r_wrong) AS rr_both
    FROM cluster_totals
    GROUP BY run_id, ablation, population, layer, head
),
-- over clusters, squares of what a cluster's sum has above its rows times the mean
squares AS (
    SELECT
        *,
        ee_right - 2 * e_right * en_right + e_right * e_right * nn_right AS squares_e_right,
        ee_wrong - 2 * e_wrong * en_wrong + e_wrong * e_wrong * nn_wrong AS squares_e_wrong,
        rr_right - 2 * r_right * rn_right + r_right * r_right * nn_right AS squares_r_right,
        rr_wrong - 2 * r_wrong * rn_wrong + r_wrong * r_wrong * nn_wrong AS squares_r_wrong,
        rr_both - r_right * rn_wrong_right - r_wrong * rn_right_wrong + r_right * r_wrong * nn_both AS products_r,
        n_clusters / nullif(n_clusters - 1, 0) AS correction,
        n_clusters_right / nullif(n_clusters_right - 1, 0) AS correction_right,
        n_clusters_wrong / nullif(n_clusters_wrong - 1, 0) AS correction_wrong
    FROM sums
),
differences AS (
    SELECT
        *,
        squares_r_right / n_right ** 2 + squares_r_wrong / n_wrong ** 2 - 2 * products_r / (n_right * n_wrong)
            AS squares_difference
    FROM squares
)
SELECT
    run_id,
    ablation,
    population,
    layer,
    head,
    CAST(coalesce(n_right, 0) AS BIGINT) AS n_right,
    CAST(coalesce(n_wrong, 0) AS BIGINT) AS n_wrong,
    r_right AS mean_self_repair_right,
    r_wrong AS mean_self_repair_wrong,
    e_right AS mean_direct_effect_right,
    e_wrong AS mean_direct_effect_wrong,
    r_wrong - r_right AS self_repair_difference,
    sqrt(greatest(0, squares_r_right) * correction_right) / n_right AS mean_self_repair_right_se,
    sqrt(greatest(0, squares_r_wrong) * correction_wrong) / n_wrong AS mean_self_repair_wrong_se,
    sqrt(greatest(0, squares_e_right) * correction_right) / n_right AS mean_direct_effect_right_se,
    sqrt(greatest(0, squares_e_wrong) * correction_wrong) / n_wrong AS mean_direct_effect_wrong_se,
    CASE
        WHEN n_right > 0 AND n_wrong > 0 THEN sqrt(greatest(0, squares_difference) * correction)
    END AS self_repair_difference_se
FROM differences
ORDER BY run_id, ablation, population = 'all', population, layer, head
