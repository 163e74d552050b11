-- Which anti-erasure neurons respond to many heads? Those that erase less for most ablated heads.
--
-- Grain: run_id, mlp_layer, neuron
-- Paper: section 5 (anti-erasure)
--
-- A neuron does so for a head if it is among the 16 that change most, erasing less, in at least the share `often` of the
-- head's top rows. Runs that did not measure neurons have no rows.
--
-- Parameters:
--   model, run_id, ablation
--   population top2|top2_nobos = top2: Rows used: top2, each head's top 2 % by direct effect; top2_nobos, the same without
--     first positions
--   often DOUBLE = 0.1: In what share of a head's top rows it has to erase less [ratio]
--   at_most
--
-- Columns:
--   n_heads BIGINT: Ablated heads for which it erases less in that share of their rows [heads]
--   heads VARCHAR: These heads, the one for which it does so most often first; at most five
--   n_anti_erasure BIGINT: Rows of these heads in which it erases less [rows]
--   n_rows BIGINT: Rows of the population of these heads [rows]
--   mean_clean_effect DOUBLE: Mean over the rows of these heads in which it is among the 16 of what it writes towards the
--     target with nothing ablated; < 0: it erases [logits]
--   mean_change DOUBLE: Mean over the same rows of its change in direct effect; > 0: it repairs [logits]

SELECT
    run_id,
    model,
    mlp_layer,
    neuron,
    count(*) AS n_heads,
    array_to_string(list(label ORDER BY n_anti_erasure / n_rows DESC, layer, head)[:5], ', ') AS heads,
    CAST(sum(n_anti_erasure) AS BIGINT) AS n_anti_erasure,
    CAST(sum(n_rows) AS BIGINT) AS n_rows,
    round(sum(mean_clean_effect * n_stored), 4) / sum(n_stored) AS mean_clean_effect,
    round(sum(mean_change * n_stored), 4) / sum(n_stored) AS mean_change
FROM anti_erasure
WHERE
    ($model IS NULL OR model = $model)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ablation = $ablation
    AND population = $population
    AND n_anti_erasure > 0
    AND n_anti_erasure >= $often * n_rows
GROUP BY run_id, model, mlp_layer, neuron
QUALIFY
    row_number() OVER (
        PARTITION BY run_id ORDER BY count(*) DESC, sum(anti_erasure.n_anti_erasure) DESC, mlp_layer, neuron
    ) <= $at_most
ORDER BY run_id, n_heads DESC, n_anti_erasure DESC, mlp_layer, neuron
