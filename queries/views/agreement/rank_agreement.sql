-- How well direct effect and ablation agree on which heads matter: rank correlations over the heads of a run.
--
-- Grain: run_id, ablation, population
-- Paper: section 3 (does ablation still find important heads?)
--
-- 1 is the same order, the head with the highest mean direct effect hurting most when it is ablated; -1 is the opposite
-- one. Ties share their average rank. Failed runs are left out.
--
-- Columns:
--   n_heads BIGINT: Measured heads [heads]
--   spearman DOUBLE: Spearman's rank correlation of mean_direct_effect with -mean_logit_change; NULL where all heads of
--     one of them are equal [-1..1]
--   kendall_tau DOUBLE: Kendall's tau-b of mean_direct_effect with -mean_logit_change; NULL where all heads of one of
--     them are equal [-1..1]
--   top10_overlap DOUBLE: Share of the 10 first heads by direct effect that are among the 10 first by logit change; of
--     all heads where there are fewer [ratio]
--   top20_overlap DOUBLE: Share of the 20 first heads by direct effect that are among the 20 first by logit change; of
--     all heads where there are fewer [ratio]

WITH heads AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        layer,
        head,
        mean_direct_effect AS effect,
        -mean_logit_change AS damage,
        direct_effect_rank,
        logit_change_rank
    FROM importance_rank
),
shared_places AS (
    SELECT
        *,
        rank() OVER (PARTITION BY run_id, ablation, population ORDER BY effect)
            + (count(*) OVER (PARTITION BY run_id, ablation, population, effect) - 1) / 2 AS effect_place,
        rank() OVER (PARTITION BY run_id, ablation, population ORDER BY damage)
            + (count(*) OVER (PARTITION BY run_id, ablation, population, damage) - 1) / 2 AS damage_place
    FROM heads
),
agreements AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        count(*) AS n_heads,
        CASE
            WHEN min(effect) < max(effect) AND min(damage) < max(damage) THEN corr(effect_place, damage_place)
        END AS spearman,
        count(*) FILTER (direct_effect_rank <= 10 AND logit_change_rank <= 10) / least(10, count(*)) AS top10_overlap,
        count(*) FILTER (direct_effect_rank <= 20 AND logit_change_rank <= 20) / least(20, count(*)) AS top20_overlap
    FROM shared_places
    GROUP BY run_id, model, ablation, population
),
pairs AS (
    SELECT
        run_id,
        ablation,
        population,
        sum(sign(one.effect - other.effect) * sign(one.damage - other.damage)) AS concordance,
        count(*) FILTER (one.effect <> other.effect) AS n_unlike_effect,
        count(*) FILTER (one.damage <> other.damage) AS n_unlike_damage
    FROM heads AS one
    INNER JOIN heads AS other USING (run_id, ablation, population)
    WHERE one.layer < other.layer OR (one.layer = other.layer AND one.head < other.head)
    GROUP BY run_id, ablation, population
)
SELECT
    run_id,
    model,
    ablation,
    population,
    n_heads,
    spearman,
    concordance / nullif(sqrt(n_unlike_effect) * sqrt(n_unlike_damage), 0) AS kendall_tau,
    top10_overlap,
    top20_overlap
FROM agreements
LEFT JOIN pairs USING (run_id, ablation, population)
ORDER BY run_id, ablation, population = 'all', population
