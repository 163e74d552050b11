-- Where does a head act, and what happens there when it is ablated? Rows of its top 2 % with the text before them.
--
-- Grain: run_id, prompt_id, pos
-- Paper: section 3 (top 2 % of tokens by direct effect)
--
-- The rows are those with the highest direct effect or, by `sort`, those of the top 2 % with the highest self-repair,
-- or part of it.
--
-- Parameters:
--   model, run_id, ablation, layer, head
--   sort direct_effect|self_repair|repair_layernorm|repair_attention|repair_mlp|repair_post_norm = direct_effect: The
--     highest of this come first
--   context INTEGER = 8: Tokens to show before the target [tokens]
--   at_most
--
-- Columns:
--   context VARCHAR: The prompt's text up to and with `token`, which predicts `target`; whole where answers are measured

WITH chosen_rows AS (
    SELECT
        *,
        CASE $sort
            WHEN 'self_repair' THEN self_repair
            WHEN 'repair_layernorm' THEN repair_layernorm
            WHEN 'repair_attention' THEN repair_attention
            WHEN 'repair_mlp' THEN repair_mlp
            WHEN 'repair_post_norm' THEN repair_post_norm
            ELSE direct_effect
        END AS sorted_by
    FROM top_effect
    WHERE
        ($model IS NULL OR model = $model)
        AND ($run_id IS NULL OR run_id = $run_id)
        AND ablation = $ablation
        AND layer = $layer
        AND head = $head
    QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY sorted_by DESC, effect_rank) <= $at_most
),
contexts AS (
    SELECT
        chosen_rows.run_id,
        chosen_rows.effect_rank,
        CASE -- of an answer's prompt only the token before the answer is in `tokens`
            WHEN coalesce(any_value(runs.logit_of), 'next_token') = 'next_token'
                THEN string_agg(tokens.token, '' ORDER BY tokens.pos)
            WHEN ends_with(any_value(prompts.text), any_value(chosen_rows.target))
                THEN left(any_value(prompts.text), -length(any_value(chosen_rows.target)))
            ELSE any_value(prompts.text)
        END AS context
    FROM chosen_rows
    INNER JOIN runs USING (run_id)
    INNER JOIN prompts USING (run_id, prompt_id)
    INNER JOIN tokens
        ON tokens.run_id = chosen_rows.run_id
        AND tokens.prompt_id = chosen_rows.prompt_id
        AND tokens.pos <= chosen_rows.pos
        AND tokens.pos > chosen_rows.pos - $context
    GROUP BY chosen_rows.run_id, chosen_rows.effect_rank
)
SELECT
    run_id,
    model,
    context,
    target,
    direct_effect,
    self_repair,
    logit_change,
    repair_layernorm,
    repair_attention,
    repair_mlp,
    repair_post_norm,
    effect_rank,
    prompt_id,
    pos
FROM chosen_rows
LEFT JOIN contexts USING (run_id, effect_rank)
ORDER BY run_id, sorted_by DESC, effect_rank
