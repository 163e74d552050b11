-- Building block: every mean, fraction and share of self-repair with its interval, a column each (`repair_estimates`).
--
-- Grain: run_id, ablation, population, level, layer, head
-- Paper: section 3 (Figure 1)
-- Kept: mart
--
-- A fraction of direct effect is computed in three ways, because they disagree. *_fraction_of_effect is the ratio of
-- means, sum of the part / sum of direct_effect. clipped_*_fraction is the paper's: the mean over rows of the part /
-- direct_effect, each clipped to [0, 1]; rows with direct_effect = 0 are counted in undefined_ratios and not averaged.
-- *_fraction_of_removed divides by the drop in direct effect, sum of the part / sum of removed_effect. A fraction
-- whose divisor is 0 is NULL. Trust fractions only where the mean direct effect is well above 0, as in top2: over all
-- rows most direct effects are near 0, and clipping their ratios makes noise look like repair.
--
-- Columns ending in _se, _low and _high hold an estimate's standard error and 95 % interval, whose ends may be differently far
-- away (repair_estimates). Of fewer than 12 clusters they are a rough guide. Intervals of fractions are Fieller's, and NULL where
-- the effect that a fraction divides by may itself be 0.
--
-- Columns:
--   population VARCHAR: Rows used: 'all' measured positions; 'top2', the 2 % with the highest clean direct_effect (the
--     same rows whatever the ablation); 'top2_nobos', the same of the positions after the first one
--   n_prompts BIGINT: Prompts measured, whether they have such rows or not [prompts]
--   mean_self_repair DOUBLE: Mean of self_repair; > 0: the rest of the model compensated [logits]
--   mean_direct_effect DOUBLE: Mean of direct_effect; > 0: pushes the correct token up [logits]
--   mean_logit_change DOUBLE: Mean of logit_change; < 0: the ablation hurts [logits]
--   mean_repair_layernorm DOUBLE: Mean of repair_layernorm, the LayerNorm repair: through the final norm's scale
--     [logits]
--   mean_repair_attention DOUBLE: Mean of repair_attention, the attention repair: through later attention layers
--     [logits]
--   mean_repair_mlp DOUBLE: Mean of repair_mlp, the MLP repair: through the same layer's and later MLPs [logits]
--   mean_repair_post_norm DOUBLE: Mean of repair_post_norm, the post-norm repair: through the norm of what the head's own
--     layer adds; NULL: the model has no post-norms [logits]
--   mean_ablated_direct_effect DOUBLE: Mean of ablated_direct_effect, the direct effect of the replaced output [logits]
--   mean_removed_effect DOUBLE: Mean of removed_effect, the drop in direct effect under ablation [logits]
--   mean_ln_scale_ratio DOUBLE: Mean of ln_scale_ratio, S/S'; > 1: the scale shrank [ratio]
--   repaired_share DOUBLE: Rows with self_repair > 0, as a share of n_rows [ratio]
--   overrepaired_share DOUBLE: Rows with self_repair > direct_effect, as a share of n_rows; over-repair only where the
--     direct effect is above 0, as in top2 [ratio]
--   mean_frozen_logit_change DOUBLE: Mean of logit_change with the final norm's scale frozen at its clean value,
--     logit_change - repair_layernorm; < 0: the ablation hurts [logits]
--   larger_frozen_share DOUBLE: Rows where freezing that scale makes the change larger in size, as a share of n_rows:
--     there the norm damps the ablation, in either direction [ratio]
--   total_fraction_of_effect DOUBLE: Sum of self_repair / sum of direct_effect [ratio]
--   layernorm_fraction_of_effect DOUBLE: Sum of repair_layernorm / sum of direct_effect [ratio]
--   attention_fraction_of_effect DOUBLE: Sum of repair_attention / sum of direct_effect [ratio]
--   mlp_fraction_of_effect DOUBLE: Sum of repair_mlp / sum of direct_effect [ratio]
--   post_norm_fraction_of_effect DOUBLE: Sum of repair_post_norm / sum of direct_effect [ratio]
--   clipped_total_fraction DOUBLE: Mean over rows of self_repair / direct_effect clipped to [0, 1]; unreliable in
--     population all [ratio]
--   clipped_layernorm_fraction DOUBLE: Mean over rows of repair_layernorm / direct_effect clipped to [0, 1]; unreliable
--     in population all [ratio]
--   clipped_attention_fraction DOUBLE: Mean over rows of repair_attention / direct_effect clipped to [0, 1]; unreliable
--     in population all [ratio]
--   clipped_mlp_fraction DOUBLE: Mean over rows of repair_mlp / direct_effect clipped to [0, 1]; unreliable in
--     population all [ratio]
--   clipped_post_norm_fraction DOUBLE: Mean over rows of repair_post_norm / direct_effect clipped to [0, 1]; unreliable in
--     population all [ratio]
--   total_fraction_of_removed DOUBLE: Sum of self_repair / sum of removed_effect [ratio]
--   layernorm_fraction_of_removed DOUBLE: Sum of repair_layernorm / sum of removed_effect [ratio]
--   attention_fraction_of_removed DOUBLE: Sum of repair_attention / sum of removed_effect [ratio]
--   mlp_fraction_of_removed DOUBLE: Sum of repair_mlp / sum of removed_effect [ratio]
--   post_norm_fraction_of_removed DOUBLE: Sum of repair_post_norm / sum of removed_effect [ratio]
--   fraction_of_effect_is_unbounded BOOLEAN: True: at 95 % the mean direct effect may be 0, so that no fraction of it is
--     bounded
--   fraction_of_removed_is_unbounded BOOLEAN: True: at 95 % the mean removed effect may be 0, so that no fraction of it is
--     bounded

SELECT
    run_id,
    ablation,
    population,
    level,
    layer,
    head,
    max(value) FILTER (estimate = 'mean_self_repair') AS mean_self_repair,
    max(value) FILTER (estimate = 'mean_direct_effect') AS mean_direct_effect,
    max(value) FILTER (estimate = 'mean_logit_change') AS mean_logit_change,
    max(value) FILTER (estimate = 'mean_repair_layernorm') AS mean_repair_layernorm,
    max(value) FILTER (estimate = 'mean_repair_attention') AS mean_repair_attention,
    max(value) FILTER (estimate = 'mean_repair_mlp') AS mean_repair_mlp,
    max(value) FILTER (estimate = 'mean_repair_post_norm') AS mean_repair_post_norm,
    max(value) FILTER (estimate = 'mean_ablated_direct_effect') AS mean_ablated_direct_effect,
    max(value) FILTER (estimate = 'mean_removed_effect') AS mean_removed_effect,
    max(value) FILTER (estimate = 'mean_ln_scale_ratio') AS mean_ln_scale_ratio,
    max(value) FILTER (estimate = 'repaired_share') AS repaired_share,
    max(value) FILTER (estimate = 'overrepaired_share') AS overrepaired_share,
    max(value) FILTER (estimate = 'mean_frozen_logit_change') AS mean_frozen_logit_change,
    max(value) FILTER (estimate = 'larger_frozen_share') AS larger_frozen_share,
    max(value) FILTER (estimate = 'total_fraction_of_effect') AS total_fraction_of_effect,
    max(value) FILTER (estimate = 'layernorm_fraction_of_effect') AS layernorm_fraction_of_effect,
    max(value) FILTER (estimate = 'attention_fraction_of_effect') AS attention_fraction_of_effect,
    max(value) FILTER (estimate = 'mlp_fraction_of_effect') AS mlp_fraction_of_effect,
    max(value) FILTER (estimate = 'post_norm_fraction_of_effect') AS post_norm_fraction_of_effect,
    max(value) FILTER (estimate = 'clipped_total_fraction') AS clipped_total_fraction,
    max(value) FILTER (estimate = 'clipped_layernorm_fraction') AS clipped_layernorm_fraction,
    max(value) FILTER (estimate = 'clipped_attention_fraction') AS clipped_attention_fraction,
    max(value) FILTER (estimate = 'clipped_mlp_fraction') AS clipped_mlp_fraction,
    max(value) FILTER (estimate = 'clipped_post_norm_fraction') AS clipped_post_norm_fraction,
    max(value) FILTER (estimate = 'total_fraction_of_removed') AS total_fraction_of_removed,
    max(value) FILTER (estimate = 'layernorm_fraction_of_removed') AS layernorm_fraction_of_removed,
    max(value) FILTER (estimate = 'attention_fraction_of_removed') AS attention_fraction_of_removed,
    max(value) FILTER (estimate = 'mlp_fraction_of_removed') AS mlp_fraction_of_removed,
    max(value) FILTER (estimate = 'post_norm_fraction_of_removed') AS post_norm_fraction_of_removed,
    max(n_heads) AS n_heads,
    max(n_prompts) AS n_prompts,
    max(n_clusters) AS n_clusters,
    max(n_rows) AS n_rows,
    max(undefined_ratios) AS undefined_ratios,
    bool_or(is_unbounded) FILTER (estimate = 'total_fraction_of_effect') AS fraction_of_effect_is_unbounded,
    bool_or(is_unbounded) FILTER (estimate = 'total_fraction_of_removed') AS fraction_of_removed_is_unbounded,
    max(standard_error) FILTER (estimate = 'mean_self_repair') AS mean_self_repair_se,
    max(low) FILTER (estimate = 'mean_self_repair') AS mean_self_repair_low,
    max(high) FILTER (estimate = 'mean_self_repair') AS mean_self_repair_high,
    max(standard_error) FILTER (estimate = 'mean_direct_effect') AS mean_direct_effect_se,
    max(low) FILTER (estimate = 'mean_direct_effect') AS mean_direct_effect_low,
    max(high) FILTER (estimate = 'mean_direct_effect') AS mean_direct_effect_high,
    max(standard_error) FILTER (estimate = 'mean_logit_change') AS mean_logit_change_se,
    max(low) FILTER (estimate = 'mean_logit_change') AS mean_logit_change_low,
    max(high) FILTER (estimate = 'mean_logit_change') AS mean_logit_change_high,
    max(standard_error) FILTER (estimate = 'mean_repair_layernorm') AS mean_repair_layernorm_se,
    max(low) FILTER (estimate = 'mean_repair_layernorm') AS mean_repair_layernorm_low,
    max(high) FILTER (estimate = 'mean_repair_layernorm') AS mean_repair_layernorm_high,
    max(standard_error) FILTER (estimate = 'mean_repair_attention') AS mean_repair_attention_se,
    max(low) FILTER (estimate = 'mean_repair_attention') AS mean_repair_attention_low,
    max(high) FILTER (estimate = 'mean_repair_attention') AS mean_repair_attention_high,
    max(standard_error) FILTER (estimate = 'mean_repair_mlp') AS mean_repair_mlp_se,
    max(low) FILTER (estimate = 'mean_repair_mlp') AS mean_repair_mlp_low,
    max(high) FILTER (estimate = 'mean_repair_mlp') AS mean_repair_mlp_high,
    max(standard_error) FILTER (estimate = 'mean_repair_post_norm') AS mean_repair_post_norm_se,
    max(low) FILTER (estimate = 'mean_repair_post_norm') AS mean_repair_post_norm_low,
    max(high) FILTER (estimate = 'mean_repair_post_norm') AS mean_repair_post_norm_high,
    max(standard_error) FILTER (estimate = 'mean_ablated_direct_effect') AS mean_ablated_direct_effect_se,
    max(low) FILTER (estimate = 'mean_ablated_direct_effect') AS mean_ablated_direct_effect_low,
    max(high) FILTER (estimate = 'mean_ablated_direct_effect') AS mean_ablated_direct_effect_high,
    max(standard_error) FILTER (estimate = 'mean_removed_effect') AS mean_removed_effect_se,
    max(low) FILTER (estimate = 'mean_removed_effect') AS mean_removed_effect_low,
    max(high) FILTER (estimate = 'mean_removed_effect') AS mean_removed_effect_high,
    max(standard_error) FILTER (estimate = 'mean_ln_scale_ratio') AS mean_ln_scale_ratio_se,
    max(low) FILTER (estimate = 'mean_ln_scale_ratio') AS mean_ln_scale_ratio_low,
    max(high) FILTER (estimate = 'mean_ln_scale_ratio') AS mean_ln_scale_ratio_high,
    max(standard_error) FILTER (estimate = 'repaired_share') AS repaired_share_se,
    max(low) FILTER (estimate = 'repaired_share') AS repaired_share_low,
    max(high) FILTER (estimate = 'repaired_share') AS repaired_share_high,
    max(standard_error) FILTER (estimate = 'overrepaired_share') AS overrepaired_share_se,
    max(low) FILTER (estimate = 'overrepaired_share') AS overrepaired_share_low,
    max(high) FILTER (estimate = 'overrepaired_share') AS overrepaired_share_high,
    max(standard_error) FILTER (estimate = 'mean_frozen_logit_change') AS mean_frozen_logit_change_se,
    max(low) FILTER (estimate = 'mean_frozen_logit_change') AS mean_frozen_logit_change_low,
    max(high) FILTER (estimate = 'mean_frozen_logit_change') AS mean_frozen_logit_change_high,
    max(standard_error) FILTER (estimate = 'larger_frozen_share') AS larger_frozen_share_se,
    max(low) FILTER (estimate = 'larger_frozen_share') AS larger_frozen_share_low,
    max(high) FILTER (estimate = 'larger_frozen_share') AS larger_frozen_share_high,
    max(standard_error) FILTER (estimate = 'total_fraction_of_effect') AS total_fraction_of_effect_se,
    max(low) FILTER (estimate = 'total_fraction_of_effect') AS total_fraction_of_effect_low,
    max(high) FILTER (estimate = 'total_fraction_of_effect') AS total_fraction_of_effect_high,
    max(standard_error) FILTER (estimate = 'layernorm_fraction_of_effect') AS layernorm_fraction_of_effect_se,
    max(low) FILTER (estimate = 'layernorm_fraction_of_effect') AS layernorm_fraction_of_effect_low,
    max(high) FILTER (estimate = 'layernorm_fraction_of_effect') AS layernorm_fraction_of_effect_high,
    max(standard_error) FILTER (estimate = 'attention_fraction_of_effect') AS attention_fraction_of_effect_se,
    max(low) FILTER (estimate = 'attention_fraction_of_effect') AS attention_fraction_of_effect_low,
    max(high) FILTER (estimate = 'attention_fraction_of_effect') AS attention_fraction_of_effect_high,
    max(standard_error) FILTER (estimate = 'mlp_fraction_of_effect') AS mlp_fraction_of_effect_se,
    max(standard_error) FILTER (estimate = 'post_norm_fraction_of_effect') AS post_norm_fraction_of_effect_se,
    max(low) FILTER (estimate = 'mlp_fraction_of_effect') AS mlp_fraction_of_effect_low,
    max(low) FILTER (estimate = 'post_norm_fraction_of_effect') AS post_norm_fraction_of_effect_low,
    max(high) FILTER (estimate = 'mlp_fraction_of_effect') AS mlp_fraction_of_effect_high,
    max(high) FILTER (estimate = 'post_norm_fraction_of_effect') AS post_norm_fraction_of_effect_high,
    max(standard_error) FILTER (estimate = 'clipped_total_fraction') AS clipped_total_fraction_se,
    max(low) FILTER (estimate = 'clipped_total_fraction') AS clipped_total_fraction_low,
    max(high) FILTER (estimate = 'clipped_total_fraction') AS clipped_total_fraction_high,
    max(standard_error) FILTER (estimate = 'clipped_layernorm_fraction') AS clipped_layernorm_fraction_se,
    max(low) FILTER (estimate = 'clipped_layernorm_fraction') AS clipped_layernorm_fraction_low,
    max(high) FILTER (estimate = 'clipped_layernorm_fraction') AS clipped_layernorm_fraction_high,
    max(standard_error) FILTER (estimate = 'clipped_attention_fraction') AS clipped_attention_fraction_se,
    max(low) FILTER (estimate = 'clipped_attention_fraction') AS clipped_attention_fraction_low,
    max(high) FILTER (estimate = 'clipped_attention_fraction') AS clipped_attention_fraction_high,
    max(standard_error) FILTER (estimate = 'clipped_mlp_fraction') AS clipped_mlp_fraction_se,
    max(standard_error) FILTER (estimate = 'clipped_post_norm_fraction') AS clipped_post_norm_fraction_se,
    max(low) FILTER (estimate = 'clipped_mlp_fraction') AS clipped_mlp_fraction_low,
    max(low) FILTER (estimate = 'clipped_post_norm_fraction') AS clipped_post_norm_fraction_low,
    max(high) FILTER (estimate = 'clipped_mlp_fraction') AS clipped_mlp_fraction_high,
    max(high) FILTER (estimate = 'clipped_post_norm_fraction') AS clipped_post_norm_fraction_high,
    max(standard_error) FILTER (estimate = 'total_fraction_of_removed') AS total_fraction_of_removed_se,
    max(low) FILTER (estimate = 'total_fraction_of_removed') AS total_fraction_of_removed_low,
    max(high) FILTER (estimate = 'total_fraction_of_removed') AS total_fraction_of_removed_high,
    max(standard_error) FILTER (estimate = 'layernorm_fraction_of_removed') AS layernorm_fraction_of_removed_se,
    max(low) FILTER (estimate = 'layernorm_fraction_of_removed') AS layernorm_fraction_of_removed_low,
    max(high) FILTER (estimate = 'layernorm_fraction_of_removed') AS layernorm_fraction_of_removed_high,
    max(standard_error) FILTER (estimate = 'attention_fraction_of_removed') AS attention_fraction_of_removed_se,
    max(low) FILTER (estimate = 'attention_fraction_of_removed') AS attention_fraction_of_removed_low,
    max(high) FILTER (estimate = 'attention_fraction_of_removed') AS attention_fraction_of_removed_high,
    max(standard_error) FILTER (estimate = 'mlp_fraction_of_removed') AS mlp_fraction_of_removed_se,
    max(standard_error) FILTER (estimate = 'post_norm_fraction_of_removed') AS post_norm_fraction_of_removed_se,
    max(low) FILTER (estimate = 'mlp_fraction_of_removed') AS mlp_fraction_of_removed_low,
    max(low) FILTER (estimate = 'post_norm_fraction_of_removed') AS post_norm_fraction_of_removed_low,
    max(high) FILTER (estimate = 'mlp_fraction_of_removed') AS mlp_fraction_of_removed_high,
    max(high) FILTER (estimate = 'post_norm_fraction_of_removed') AS post_norm_fraction_of_removed_high
FROM repair_estimates
WHERE population IN ('all', 'top2', 'top2_nobos')
GROUP BY run_id, ablation, population, level, layer, head
