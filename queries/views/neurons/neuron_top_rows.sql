-- Every stored change of a neuron: the 16 that change most, in each row of an ablated head's top 2 %, of all rows or of
-- those after position 0, with the tokens.
--
-- Grain: run_id, ablation, layer, head, prompt_id, pos, mlp_layer, neuron
-- Headline: label, mlp_layer, neuron, change, rank, target, clean_effect, ablated_effect, is_anti_erasure
-- Paper: section 5 (anti-erasure: the scatter of clean against ablated effect)
--
-- A change of 0 has no row. in_top2 and in_top2_nobos say which rows the populations of the other views of neurons have: most
-- are in both. Computed from all rows: filter by run and head for a quick answer. Failed runs are left out.
--
-- Columns:
--   label VARCHAR: Name of the ablated head, such as L9H6
--   change FLOAT: ablated_effect - clean_effect; > 0: the neuron repairs [logits]
--   is_anti_erasure BOOLEAN: True: it erases less, change > 0 with clean_effect < 0

WITH changes AS (
    SELECT
        *,
        in_steps(ablated_effect - clean_effect) AS change
    FROM neuron_changes
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    layer,
    head,
    head_label(layer, head) AS label,
    prompt_id,
    pos,
    tokens.token,
    tokens.target,
    measurements.direct_effect,
    mlp_layer,
    neuron,
    rank,
    in_top2,
    in_top2_nobos,
    clean_effect,
    ablated_effect,
    change,
    change > 0 AND clean_effect < 0 AS is_anti_erasure
FROM changes
INNER JOIN measurements USING (run_id, ablation, layer, head, prompt_id, pos)
INNER JOIN tokens USING (run_id, prompt_id, pos)
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
WHERE runs.status <> 'failed' AND change <> 0
