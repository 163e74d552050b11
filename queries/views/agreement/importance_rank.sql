-- Every head's rank among its run's heads by direct effect and by logit change.
--
-- Grain: run_id, ablation, population, layer, head
-- Headline: label, direct_effect_rank, logit_change_rank, rank_difference, mean_direct_effect, mean_logit_change,
--   mean_self_repair, n_rows
-- Paper: section 3 (does ablation still find important heads?)
--
-- A head that self-repair hides ranks high by direct effect and low by logit change. Ranks are 1 to the number of
-- heads, each given once; ties are broken by layer, head. Failed runs are left out.
--
-- Columns:
--   direct_effect_rank BIGINT: Rank by mean_direct_effect; 1: the highest
--   logit_change_rank BIGINT: Rank by mean_logit_change; 1: the most negative, ablating this head hurts most
--   rank_difference BIGINT: logit_change_rank - direct_effect_rank; > 0: ablation ranks the head lower than direct
--     effect does [ranks]
--   absolute_direct_effect_rank BIGINT: Rank by |mean_direct_effect|; 1: the largest
--   absolute_logit_change_rank BIGINT: Rank by |mean_logit_change|; 1: the largest
--   missed_in_top10 BOOLEAN: True: among the first 10 heads by direct effect, but not by logit change
--   missed_in_top20 BOOLEAN: True: among the first 20 heads by direct effect, but not by logit change

WITH ranks AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY run_id, ablation, population
            ORDER BY mean_direct_effect DESC, layer, head
        ) AS direct_effect_rank,
        row_number() OVER (
            PARTITION BY run_id, ablation, population
            ORDER BY mean_logit_change, layer, head
        ) AS logit_change_rank,
        row_number() OVER (
            PARTITION BY run_id, ablation, population
            ORDER BY abs(mean_direct_effect) DESC, layer, head
        ) AS absolute_direct_effect_rank,
        row_number() OVER (
            PARTITION BY run_id, ablation, population
            ORDER BY abs(mean_logit_change) DESC, layer, head
        ) AS absolute_logit_change_rank
    FROM head_repair
)
SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    head,
    label,
    depth,
    n_rows,
    mean_direct_effect,
    mean_logit_change,
    mean_self_repair,
    direct_effect_rank,
    logit_change_rank,
    logit_change_rank - direct_effect_rank AS rank_difference,
    absolute_direct_effect_rank,
    absolute_logit_change_rank,
    direct_effect_rank <= 10 AND logit_change_rank > 10 AS missed_in_top10,
    direct_effect_rank <= 20 AND logit_change_rank > 20 AS missed_in_top20
FROM ranks
ORDER BY run_id, ablation, population = 'all', population, direct_effect_rank
