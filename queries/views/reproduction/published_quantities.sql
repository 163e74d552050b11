-- Building block: the paper's own numbers of every head, one per row.
--
-- Grain: published_model, population, published_run, layer, head, quantity
-- Paper: section 3 (what its authors released)
--
-- self_repair is logit_change - (ablated_direct_effect - direct_effect), to 1e-6 as the numbers it is made of. A number
-- that was not published has no row.
--
-- Columns:
--   quantity VARCHAR: Which number of a head: a mean of direct_effect, ablated_direct_effect, logit_change, self_repair,
--     repair_layernorm, repair_attention or repair_mlp, or one of the clipped_ fractions of head_repair
--   published_value DOUBLE: The paper's own number [logits or ratio]

WITH quantities AS (
    SELECT
        published_model,
        population,
        published_run,
        layer,
        head,
        unnest([
            {'quantity': 'direct_effect', 'published_value': direct_effect},
            {'quantity': 'ablated_direct_effect', 'published_value': ablated_direct_effect},
            {'quantity': 'logit_change', 'published_value': logit_change},
            {
                'quantity': 'self_repair',
                'published_value': round(logit_change - (ablated_direct_effect - direct_effect), 6)
            },
            {'quantity': 'repair_layernorm', 'published_value': repair_layernorm},
            {'quantity': 'repair_attention', 'published_value': repair_attention},
            {'quantity': 'repair_mlp', 'published_value': repair_mlp},
            {'quantity': 'clipped_layernorm_fraction', 'published_value': clipped_layernorm_fraction},
            {'quantity': 'clipped_attention_fraction', 'published_value': clipped_attention_fraction},
            {'quantity': 'clipped_mlp_fraction', 'published_value': clipped_mlp_fraction}
        ], recursive := true)
    FROM published_head_repair
)
SELECT published_model, population, published_run, layer, head, quantity, published_value
FROM quantities
WHERE published_value IS NOT NULL
