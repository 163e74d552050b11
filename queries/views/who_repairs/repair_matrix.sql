-- Which layer repairs which: the change in direct effect of all heads of a later layer, or of the same or a later MLP,
-- when a head is ablated.
--
-- Grain: run_id, ablation, population, layer, target_kind, target_layer
-- Paper: section 3 (self-repair by later attention layers and MLPs)
--
-- The changes of a later layer's heads are added up for each ablated head, and the sums are averaged over the layer's
-- ablated heads. Pairs of layers that cannot interact have no row. Failed runs are left out.
--
-- Columns:
--   layer SMALLINT: Layer of the ablated heads, from 0
--   target_kind ENUM('head', 'mlp'): What changed: 'head', all heads of the target layer together; 'mlp', its MLP
--   target_layer SMALLINT: Layer of what changed, from 0
--   n_heads BIGINT: Ablated heads of the layer, over which the mean is taken [heads]
--   mean_change DOUBLE: Mean over them of the change in the target's direct effect; > 0: it repairs, < 0: it adds to
--     the damage [logits]
--   share_of_effect DOUBLE: Sum over them of that change / sum of their mean_direct_effect; NULL where that is 0 [ratio]

WITH head_sums AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        layer,
        head,
        target_kind,
        target_layer,
        round(sum(mean_change), 12) AS change, -- so that what cancels is 0, and no tiny divisor below
        any_value(mean_direct_effect) AS direct_effect
    FROM who_repairs
    GROUP BY run_id, model, ablation, population, layer, head, target_kind, target_layer
)
SELECT
    run_id,
    model,
    ablation,
    population,
    layer,
    target_kind,
    target_layer,
    count(*) AS n_heads,
    round(sum(change), 12) / count(*) AS mean_change,
    round(sum(change), 12) / nullif(round(sum(direct_effect), 12), 0) AS share_of_effect
FROM head_sums
GROUP BY run_id, model, ablation, population, layer, target_kind, target_layer
ORDER BY run_id, ablation, population = 'all', population, layer, target_kind, target_layer
