-- Building block: every mean, fraction and share of self-repair, at the level of heads, of layers and of whole models.
--
-- Grain: run_id, ablation, population, level, layer, head
-- Paper: section 3 (Figure 1)
--
-- Every mean is over rows: a layer or model pools the rows of its heads, so that each row counts the same. The heads of
-- a run have equally many rows; a mean over heads would be the same number.
--
-- A fraction of direct effect is offered three ways, because they disagree. clipped_*_fraction is the paper's: the mean
-- over rows of the part / direct_effect, each held between 0 and 1; rows with direct_effect = 0 are counted in
-- undefined_ratios and not averaged. *_fraction_of_effect is the ratio of means, sum of the part / sum of direct_effect,
-- not clipped. *_fraction_of_removed divides by what the ablation took away, sum of the part / sum of removed_effect.
-- A fraction whose divisor is 0 is NULL. Stored effects are whole steps of 1e-4, and so their sums are rounded to these:
-- what cancels is exactly 0 and not a tiny divisor. Read fractions where the mean direct effect is well above 0, as in top2.
--
-- Columns:
--   model VARCHAR: Name of the measured model: models.name
--   level VARCHAR: What a row is about: 'head', 'layer' (head is NULL) or 'model' (layer is NULL, too)
--   label VARCHAR: Name of the head as the field writes it, such as L9H6
--   depth DOUBLE: How deep the layer is, layer / n_layers; 0: the first layer [%]
--   n_heads BIGINT: Measured heads whose rows are pooled [heads]
--   mean_direct_effect DOUBLE: Mean of direct_effect; > 0: pushes the correct token up [logits]
--   mean_ablated_direct_effect DOUBLE: Mean of ablated_direct_effect, what the replacement says instead [logits]
--   mean_removed_effect DOUBLE: Mean of removed_effect, the direct effect that the ablation takes away [logits]
--   mean_logit_change DOUBLE: Mean of logit_change; < 0: the ablation hurts [logits]
--   mean_self_repair DOUBLE: Mean of self_repair; > 0: the rest of the model compensated [logits]
--   mean_repair_layernorm DOUBLE: Mean of repair_layernorm, the part by the final norm's scale [logits]
--   mean_repair_attention DOUBLE: Mean of repair_attention, the part by later attention layers [logits]
--   mean_repair_mlp DOUBLE: Mean of repair_mlp, the part by later MLPs [logits]
--   mean_ln_scale_ratio DOUBLE: Mean of ln_scale_ratio, S/S'; > 1: the final norm shrank [ratio]
--   clipped_layernorm_fraction DOUBLE: Mean over rows of repair_layernorm / direct_effect held within 0..1 [ratio]
--   clipped_attention_fraction DOUBLE: Mean over rows of repair_attention / direct_effect held within 0..1 [ratio]
--   clipped_mlp_fraction DOUBLE: Mean over rows of repair_mlp / direct_effect held within 0..1 [ratio]
--   clipped_total_fraction DOUBLE: Mean over rows of self_repair / direct_effect held within 0..1 [ratio]
--   layernorm_fraction_of_effect DOUBLE: Sum of repair_layernorm / sum of direct_effect [ratio]
--   attention_fraction_of_effect DOUBLE: Sum of repair_attention / sum of direct_effect [ratio]
--   mlp_fraction_of_effect DOUBLE: Sum of repair_mlp / sum of direct_effect [ratio]
--   total_fraction_of_effect DOUBLE: Sum of self_repair / sum of direct_effect [ratio]
--   layernorm_fraction_of_removed DOUBLE: Sum of repair_layernorm / sum of removed_effect [ratio]
--   attention_fraction_of_removed DOUBLE: Sum of repair_attention / sum of removed_effect [ratio]
--   mlp_fraction_of_removed DOUBLE: Sum of repair_mlp / sum of removed_effect [ratio]
--   total_fraction_of_removed DOUBLE: Sum of self_repair / sum of removed_effect [ratio]
--   repaired_share DOUBLE: Rows with self_repair > 0, as a share of n_rows [ratio]
--   overrepaired_share DOUBLE: Rows with self_repair > direct_effect, as a share of n_rows [ratio]

WITH sums AS (
    SELECT
        run_id,
        ablation,
        population,
        CASE grouping(layer, head) WHEN 0 THEN 'head' WHEN 1 THEN 'layer' ELSE 'model' END AS level,
        layer,
        head,
        count(*) AS n_heads,
        CAST(sum(n_rows) AS BIGINT) AS n_rows,
        CAST(sum(undefined_ratios) AS BIGINT) AS undefined_ratios,
        sum(repaired_rows) AS repaired_rows,
        sum(overrepaired_rows) AS overrepaired_rows,
        round(sum(sum_direct_effect), 4) AS direct_effect,
        round(sum(sum_ablated_direct_effect), 4) AS ablated_direct_effect,
        round(sum(sum_removed_effect), 4) AS removed_effect,
        round(sum(sum_logit_change), 4) AS logit_change,
        round(sum(sum_self_repair), 4) AS self_repair,
        round(sum(sum_repair_layernorm), 4) AS repair_layernorm,
        round(sum(sum_repair_attention), 4) AS repair_attention,
        round(sum(sum_repair_mlp), 4) AS repair_mlp,
        round(sum(sum_ln_scale_ratio), 4) AS ln_scale_ratio,
        sum(sum_clipped_layernorm) AS clipped_layernorm,
        sum(sum_clipped_attention) AS clipped_attention,
        sum(sum_clipped_mlp) AS clipped_mlp,
        sum(sum_clipped_total) AS clipped_total
    FROM head_sums
    GROUP BY GROUPING SETS (
        (run_id, ablation, population, layer, head),
        (run_id, ablation, population, layer),
        (run_id, ablation, population)
    )
),
divisors AS (
    SELECT
        *,
        nullif(n_rows - undefined_ratios, 0) AS n_ratios,
        nullif(direct_effect, 0) AS effect,
        nullif(removed_effect, 0) AS removed
    FROM sums
)
SELECT
    run_id,
    models.name AS model,
    ablation,
    population,
    level,
    layer,
    head,
    'L' || layer || 'H' || head AS label,
    100.0::DOUBLE * layer / models.n_layers AS depth,
    divisors.n_heads,
    n_rows,
    direct_effect / n_rows AS mean_direct_effect,
    ablated_direct_effect / n_rows AS mean_ablated_direct_effect,
    removed_effect / n_rows AS mean_removed_effect,
    logit_change / n_rows AS mean_logit_change,
    self_repair / n_rows AS mean_self_repair,
    repair_layernorm / n_rows AS mean_repair_layernorm,
    repair_attention / n_rows AS mean_repair_attention,
    repair_mlp / n_rows AS mean_repair_mlp,
    ln_scale_ratio / n_rows AS mean_ln_scale_ratio,
    clipped_layernorm / n_ratios AS clipped_layernorm_fraction,
    clipped_attention / n_ratios AS clipped_attention_fraction,
    clipped_mlp / n_ratios AS clipped_mlp_fraction,
    clipped_total / n_ratios AS clipped_total_fraction,
    repair_layernorm / effect AS layernorm_fraction_of_effect,
    repair_attention / effect AS attention_fraction_of_effect,
    repair_mlp / effect AS mlp_fraction_of_effect,
    self_repair / effect AS total_fraction_of_effect,
    repair_layernorm / removed AS layernorm_fraction_of_removed,
    repair_attention / removed AS attention_fraction_of_removed,
    repair_mlp / removed AS mlp_fraction_of_removed,
    self_repair / removed AS total_fraction_of_removed,
    undefined_ratios,
    repaired_rows / n_rows AS repaired_share,
    overrepaired_rows / n_rows AS overrepaired_share
FROM divisors
INNER JOIN runs USING (run_id)
INNER JOIN models USING (model_id)
