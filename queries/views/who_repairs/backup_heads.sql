-- Backup heads: how often a head repairs the ablated heads before it, and how much relative to its own size.
--
-- Grain: run_id, ablation, population, target_layer, target_head
-- Headline: target_label, score, score_low, score_high, n_repaired, n_ablated, n_top3, expected_top3, relative_change,
--   n_clusters
-- Paper: section 3 (self-repair by later attention layers)
--
-- A head with large outputs changes a lot whatever is ablated. Changes are therefore divided by its own size: the mean
-- of its clean |direct_effect| over all rows, which, unlike the mean, is not near 0 where the head pushes the target
-- up and down in turn. 0.1 is a change by a tenth of what the head usually writes. An own size below the stored step
-- of 1e-4 counts as 1e-4, so that a backup head that is silent until it is needed has a high score instead of none. A
-- head repairs another where who_repairs says so, by a margin and for all edges of the run together. In the last layers few
-- heads are left to be among the top three: compare n_top3 with expected_top3. Means count each ablated head the same.
--
-- The interval of the score holds whatever the errors of a head's edges have to do with each other, which they share their
-- text with: its lower end has each edge that repairs at the lower end of its own 95 % interval, its upper end every edge at the
-- upper one. own_size counts as known. Failed runs are left out.
--
-- Columns:
--   target_layer SMALLINT: Layer of the head that repairs, from 0
--   target_head SMALLINT: Number of the head that repairs, from 0
--   target_label VARCHAR: Name of the head that repairs, such as L10H7
--   n_ablated BIGINT: Ablated heads of earlier layers: those it could repair [heads]
--   n_clusters BIGINT: Documents by which errors are clustered, the most of any of these heads [clusters]
--   n_repaired BIGINT: Of these, heads it repairs, by the verdict of who_repairs [heads]
--   n_damaged BIGINT: Of these, heads to whose damage it adds, by the verdict of who_repairs [heads]
--   n_top3 BIGINT: Of these, heads for which it is among the three heads with the highest mean_change, and that is
--     above 0 [heads]
--   expected_top3 DOUBLE: What n_top3 would be on average if the three were drawn from the later heads by chance [heads]
--   mean_change DOUBLE: Mean over the ablated heads of the change in its direct effect; > 0: it repairs [logits]
--   own_size DOUBLE: Mean of its own clean |direct_effect| over all rows; NULL: it was not ablated itself, and so not
--     measured [logits]
--   relative_change DOUBLE: mean_change / own_size, that at least 1e-4; NULL where it is unknown [ratio]
--   score DOUBLE: Mean over all ablated heads of mean_change / own_size, that at least 1e-4, heads it does not repair
--     counting 0: how much of itself it adds, how often; never below 0; NULL where own_size is unknown [ratio]
--   score_low DOUBLE: Lower end of its interval of at least 95 %; NULL: own_size is unknown, or one cluster [ratio]
--   score_high DOUBLE: Upper end of that interval [ratio]

WITH head_targets AS (
    SELECT
        *,
        count(*) OVER (PARTITION BY run_id, ablation, population, layer, head) AS n_later
    FROM who_repairs
    WHERE target_kind = 'head'
),
sums AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        target_layer,
        target_head,
        target_label,
        count(*) AS n_ablated,
        count(*) FILTER (verdict = 'repairs') AS n_repaired,
        count(*) FILTER (verdict = 'adds to the damage') AS n_damaged,
        count(*) FILTER (rank_in_kind <= 3 AND mean_change > 0) AS n_top3,
        -- rounded, since a sum's last digits depend on its order, and with them whether two heads are equal
        round(sum(least(3, n_later) / n_later), 12) AS expected_top3,
        round(sum(mean_change), 12) / count(*) AS mean_change,
        round(coalesce(sum(mean_change) FILTER (verdict = 'repairs'), 0), 12) / count(*) AS mean_repair,
        CASE
            WHEN count(*) = count(standard_error)
                THEN round(coalesce(sum(greatest(0, mean_change_low)) FILTER (verdict = 'repairs'), 0), 12) / count(*)
        END AS repair_low,
        CASE WHEN count(*) = count(standard_error) THEN round(sum(greatest(0, mean_change_high)), 12) / count(*) END AS repair_high,
        max(n_clusters) AS n_clusters
    FROM head_targets
    GROUP BY run_id, model, ablation, population, target_layer, target_head, target_label
)
SELECT
    sums.run_id,
    sums.model,
    sums.ablation,
    sums.population,
    sums.target_layer,
    sums.target_head,
    sums.target_label,
    sums.n_ablated,
    sums.n_clusters,
    sums.n_repaired,
    sums.n_damaged,
    sums.n_top3,
    sums.expected_top3,
    sums.mean_change,
    tail_numbers.mean AS own_size,
    sums.mean_change / CASE WHEN tail_numbers.mean < 1e-4 THEN 1e-4 ELSE tail_numbers.mean END AS relative_change,
    sums.mean_repair / CASE WHEN tail_numbers.mean < 1e-4 THEN 1e-4 ELSE tail_numbers.mean END AS score,
    sums.repair_low / CASE WHEN tail_numbers.mean < 1e-4 THEN 1e-4 ELSE tail_numbers.mean END AS score_low,
    sums.repair_high / CASE WHEN tail_numbers.mean < 1e-4 THEN 1e-4 ELSE tail_numbers.mean END AS score_high
FROM sums
LEFT JOIN tail_numbers
    ON tail_numbers.run_id = sums.run_id
    AND tail_numbers.ablation = sums.ablation
    AND tail_numbers.layer = sums.target_layer
    AND tail_numbers.head = sums.target_head
    AND tail_numbers.measure = 'abs_direct_effect'
ORDER BY
    sums.run_id,
    sums.ablation,
    sums.population = 'all',
    sums.population,
    score DESC NULLS LAST,
    relative_change DESC NULLS LAST,
    sums.target_layer,
    sums.target_head
