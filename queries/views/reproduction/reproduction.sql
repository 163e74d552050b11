-- Measured against published: every head's quantities and the paper's own.
--
-- Grain: run_id, ablation, population, published_run, layer, head, quantity
-- Paper: section 3 (what its authors released)
--
-- There are rows for runs of a published model's final weights under resample ablation, without given heads; the model
-- is recognised by the last part of its name (published_head_repair.hub_name) and its numbers of layers and heads. The
-- authors used other text and conventions, so expect agreement in order and magnitude, not in decimals: see
-- reproduction_agreement, and published_agreement for two runs of their own. Failed runs are left out.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions, or 'top2', the 2 % with the highest clean direct_effect
--   measured_value DOUBLE: The quantity in this run, from head_repair [logits or ratio]
--   measured_value_se DOUBLE: Its standard error, clustered by document (cluster_sums); NULL: one cluster [logits or ratio]
--   difference DOUBLE: measured_value - published_value [logits or ratio]

WITH measured AS (
    SELECT
        run_id,
        model,
        ablation,
        population,
        published_model,
        layer,
        head,
        label,
        n_clusters,
        unnest([
            {'quantity': 'direct_effect', 'value': mean_direct_effect, 'se': mean_direct_effect_se},
            {
                'quantity': 'ablated_direct_effect',
                'value': mean_ablated_direct_effect,
                'se': mean_ablated_direct_effect_se
            },
            {'quantity': 'logit_change', 'value': mean_logit_change, 'se': mean_logit_change_se},
            {'quantity': 'self_repair', 'value': mean_self_repair, 'se': mean_self_repair_se},
            {'quantity': 'repair_layernorm', 'value': mean_repair_layernorm, 'se': mean_repair_layernorm_se},
            {'quantity': 'repair_attention', 'value': mean_repair_attention, 'se': mean_repair_attention_se},
            {'quantity': 'repair_mlp', 'value': mean_repair_mlp, 'se': mean_repair_mlp_se},
            {
                'quantity': 'clipped_layernorm_fraction',
                'value': clipped_layernorm_fraction,
                'se': clipped_layernorm_fraction_se
            },
            {
                'quantity': 'clipped_attention_fraction',
                'value': clipped_attention_fraction,
                'se': clipped_attention_fraction_se
            },
            {'quantity': 'clipped_mlp_fraction', 'value': clipped_mlp_fraction, 'se': clipped_mlp_fraction_se}
        ], recursive := true)
    FROM head_repair
    INNER JOIN published_matches USING (run_id, model)
    WHERE ablation = 'resample'
)
SELECT
    run_id,
    model,
    ablation,
    population,
    published_model,
    published_run,
    layer,
    head,
    label,
    n_clusters,
    quantity,
    value AS measured_value,
    se AS measured_value_se,
    published_value,
    value - published_value AS difference
FROM measured
INNER JOIN published_quantities USING (published_model, population, layer, head, quantity)
ORDER BY run_id, population = 'all', population, published_run, quantity, layer, head
