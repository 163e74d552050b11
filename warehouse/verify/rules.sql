-- Everything that holds in a sound warehouse, in the order of the report. Each rule is a query that returns one row per
-- violation, in one column `what` that describes it.
--
--   rule   what holds
--   over   the table that is checked; `by unit`: once for each unit, as $run_id and the prompts $first_prompt to
--          $last_prompt. Over measurements, a rule aggregates to prompts or heads at most or runs by unit, so that memory
--          stays bounded however many rows there are.
--
-- Names in braces stand for values of rules.py.

-- rule: each unit has the rows its ledger entry states
-- over: units
WITH
counted AS (
    SELECT run_id, prompt_id, count(*) AS n_rows
    FROM measurements
    GROUP BY run_id, prompt_id
)
SELECT
    'run ' || u.run_id || ', unit ' || u.unit || ': ' || coalesce(sum(c.n_rows), 0) || ' rows of '
        || count(p.prompt_id) || ' prompts; the ledger states ' || u.n_measurements || ' of ' || u.n_prompts AS what
FROM units AS u
LEFT JOIN prompts AS p
    ON p.run_id = u.run_id AND p.prompt_id BETWEEN u.first_prompt AND u.first_prompt + u.n_prompts - 1
LEFT JOIN counted AS c ON c.run_id = p.run_id AND c.prompt_id = p.prompt_id
GROUP BY u.run_id, u.unit, u.n_measurements, u.n_prompts
HAVING coalesce(sum(c.n_rows), 0) <> u.n_measurements OR count(p.prompt_id) <> u.n_prompts;

-- rule: each prompt is in a unit
-- over: prompts
SELECT 'run ' || p.run_id || ', prompt ' || p.prompt_id || ': in no unit of the ledger' AS what
FROM prompts AS p
WHERE NOT EXISTS (
    SELECT 1
    FROM units AS u
    WHERE u.run_id = p.run_id AND p.prompt_id BETWEEN u.first_prompt AND u.first_prompt + u.n_prompts - 1
);

-- rule: runs with all their units have all their rows
-- over: runs
SELECT
    'run ' || r.run_id || ': ' || sum(u.n_measurements) || ' rows of ' || sum(u.n_prompts) || ' prompts; expected '
        || r.n_measurements || ' of ' || r.n_prompts AS what
FROM runs AS r
JOIN units AS u USING (run_id)
GROUP BY r.run_id, r.n_measurements, r.n_prompts, r.n_units
HAVING
    count(*) > r.n_units
    OR (count(*) = r.n_units AND (sum(u.n_measurements) <> r.n_measurements OR sum(u.n_prompts) <> r.n_prompts));

-- rule: run status and errors follow from what is loaded
-- over: runs
WITH
loaded AS (
    SELECT run_id, count(*) AS n_units, max(identity_error_max) AS error_max, max(measured_at) AS measured_at
    FROM units
    GROUP BY run_id
),
checked AS (
    SELECT run_id, count(*) AS n_cells, max(error_max) AS error_max, sum(n_rows) AS n_rows
    FROM crosschecks
    GROUP BY run_id
)
SELECT
    'run ' || r.run_id || ' (' || r.status || '): status, finished_at or errors do not follow from its units and '
        || 'cross-checks' AS what
FROM runs AS r
LEFT JOIN loaded AS l USING (run_id)
LEFT JOIN checked AS c USING (run_id)
WHERE
    r.identity_error_max IS DISTINCT FROM l.error_max
    OR r.crosscheck_error_max IS DISTINCT FROM c.error_max
    OR r.crosscheck_rows <> coalesce(c.n_rows, 0)
    OR r.finished_at IS DISTINCT FROM CASE WHEN l.n_units = r.n_units THEN l.measured_at END
    OR r.status <> CASE
        WHEN c.error_max > r.crosscheck_tolerance THEN 'failed'
        WHEN l.n_units = r.n_units AND coalesce(c.n_cells, 0) >= r.n_crosschecks THEN 'complete'
        ELSE 'incomplete'
    END::run_status;

-- rule: no row appears twice
-- over: measurements, by unit
SELECT
    'run ' || $run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ': '
        || count(*) || ' rows for ' || count(DISTINCT ablation) || ' ablations' AS what
FROM measurements
WHERE run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt
GROUP BY prompt_id, pos, layer, head
HAVING count(*) <> bit_count(bit_or(1 << enum_code(ablation)::INTEGER));

-- rule: no model appears twice
-- over: models
SELECT 'models ' || string_agg(model_id, ', ' ORDER BY model_id) AS what
FROM models
GROUP BY name, revision, checkpoint, weights_sha256, config_sha256
HAVING count(*) > 1;

-- rule: no dataset appears twice
-- over: datasets
SELECT 'datasets ' || string_agg(dataset_id, ', ' ORDER BY dataset_id) AS what
FROM datasets
GROUP BY name, split, revision, packing, seq_len, fingerprint
HAVING count(*) > 1;

-- rule: runs have a model
-- over: runs
SELECT DISTINCT 'runs of model ' || model_id || ': no such row in models' AS what
FROM runs
ANTI JOIN models USING (model_id);

-- rule: runs have a dataset
-- over: runs
SELECT DISTINCT 'runs of dataset ' || dataset_id || ': no such row in datasets' AS what
FROM runs
ANTI JOIN datasets USING (dataset_id);

-- rule: units have a run
-- over: units
SELECT DISTINCT 'units of run ' || run_id || ': no such row in runs' AS what
FROM units
ANTI JOIN runs USING (run_id);

-- rule: prompts have a run
-- over: prompts
SELECT DISTINCT 'prompts of run ' || run_id || ': no such row in runs' AS what
FROM prompts
ANTI JOIN runs USING (run_id);

-- rule: tokens have a prompt
-- over: tokens
SELECT DISTINCT 'tokens of run ' || run_id || ', prompt ' || prompt_id || ': no such row in prompts' AS what
FROM tokens
ANTI JOIN prompts USING (run_id, prompt_id);

-- rule: cross-checks have a prompt
-- over: crosschecks
SELECT DISTINCT 'crosschecks of run ' || run_id || ', prompt ' || prompt_id || ': no such row in prompts' AS what
FROM crosschecks
ANTI JOIN prompts USING (run_id, prompt_id);

-- rule: measurements have a token
-- over: measurements
WITH
found AS (
    SELECT run_id, prompt_id, min(pos) AS first_pos, max(pos) AS last_pos
    FROM measurements
    GROUP BY run_id, prompt_id
)
SELECT
    'measurements of run ' || f.run_id || ', prompt ' || f.prompt_id || ', positions ' || f.first_pos || ' to '
        || f.last_pos AS what
FROM found AS f
LEFT JOIN prompts AS p USING (run_id, prompt_id)
LEFT JOIN runs AS r USING (run_id)
WHERE
    p.prompt_id IS NULL
    OR f.first_pos < CASE WHEN coalesce(r.logit_of, 'next_token') = 'next_token' THEN 0 ELSE len(p.token_ids) - 2 END
    OR f.last_pos > len(p.token_ids) - 2;

-- rule: measured heads and ablations match the run
-- over: measurements
WITH
found AS (
    SELECT DISTINCT run_id, layer, head, ablation
    FROM measurements
)
SELECT 'run ' || f.run_id || ': ' || f.ablation || ' of L' || f.layer || 'H' || f.head AS what
FROM found AS f
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE
    NOT list_contains(r.selected_heads, 'L' || f.layer || 'H' || f.head)
    OR NOT list_contains(r.ablations, f.ablation)
    OR f.layer NOT BETWEEN 0 AND m.n_layers - 1
    OR f.head NOT BETWEEN 0 AND m.n_heads - 1;

-- rule: tokens and targets match the prompt
-- over: tokens
SELECT 'run ' || t.run_id || ', prompt ' || t.prompt_id || ', position ' || t.pos AS what
FROM tokens AS t
JOIN prompts AS p USING (run_id, prompt_id)
JOIN runs AS r USING (run_id)
WHERE
    t.token_id IS DISTINCT FROM p.token_ids[t.pos + 1]
    OR t.target_id IS DISTINCT FROM p.token_ids[t.pos + 2]
    OR (t.foil_id IS NOT NULL) <> (coalesce(r.logit_of, '') = 'answer_minus_foil')
    OR t.foil_id = t.target_id;

-- rule: each prompt has all its tokens
-- over: prompts
SELECT
    'run ' || p.run_id || ', prompt ' || p.prompt_id || ': ' || count(t.pos) || ' rows of tokens for '
        || len(p.token_ids) || ' tokens' AS what
FROM prompts AS p
JOIN runs AS r USING (run_id)
LEFT JOIN tokens AS t USING (run_id, prompt_id)
GROUP BY p.run_id, p.prompt_id, p.token_ids, r.logit_of
HAVING count(t.pos) <> CASE WHEN coalesce(r.logit_of, 'next_token') = 'next_token' THEN len(p.token_ids) - 1 ELSE 1 END;

-- rule: resample partners are other prompts of the run
-- over: prompts
SELECT
    'run ' || p.run_id || ', prompt ' || p.prompt_id || ': partner ' || coalesce(p.partner_id::VARCHAR, 'NULL') AS what
FROM prompts AS p
JOIN runs AS r USING (run_id)
WHERE
    (p.partner_id IS NOT NULL) <> list_contains(r.ablations, 'resample')
    OR p.partner_id = p.prompt_id
    OR p.partner_id NOT BETWEEN 0 AND r.n_prompts - 1;

-- rule: effects are finite
-- over: measurements
SELECT 'measurements of run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos AS what
FROM measurements
WHERE NOT ({FINITE_EFFECTS});

-- rule: clean predictions are finite
-- over: tokens
SELECT 'tokens of run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos AS what
FROM tokens
WHERE NOT (isfinite(clean_logit) AND isfinite(clean_logprob) AND isfinite(clean_entropy) AND isfinite(clean_ln_scale));

-- rule: direct effect is the same under every ablation
-- over: measurements, by unit
SELECT
    'run ' || $run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ': '
        || min(direct_effect) || ' and ' || max(direct_effect) AS what
FROM measurements
WHERE run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt
GROUP BY prompt_id, pos, layer, head
HAVING min(direct_effect) <> max(direct_effect);

-- rule: the identity held to {IDENTITY_ERROR_LIMIT:g} logits when measured, or to the same share of large effects
-- over: units
WITH suspects AS (
    SELECT run_id, unit, first_prompt, first_prompt + n_prompts - 1 AS last_prompt, identity_error_max
    FROM units
    WHERE NOT identity_error_max <= {IDENTITY_ERROR_LIMIT}
)
SELECT 'run ' || s.run_id || ', unit ' || s.unit || ': ' || s.identity_error_max || ' logits' AS what
FROM suspects AS s
LEFT JOIN measurements AS m ON m.run_id = s.run_id AND m.prompt_id BETWEEN s.first_prompt AND s.last_prompt
GROUP BY s.run_id, s.unit, s.identity_error_max
HAVING NOT s.identity_error_max <= coalesce(max({TIMES_THE_LIMIT}), 1) * {IDENTITY_ERROR_LIMIT};

-- rule: the identity holds in the stored rows
-- over: measurements
SELECT
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ', '
        || ablation AS what
FROM measurements
WHERE
    abs(
        logit_change::DOUBLE - (ablated_direct_effect::DOUBLE - direct_effect)
        - (repair_layernorm::DOUBLE + repair_attention + repair_mlp)
    ) > {TIMES_THE_LIMIT} * {IDENTITY_ERROR_LIMIT} + {ROUNDING};

-- rule: heads of the last layer have no attention repair, and in parallel blocks no MLP repair
-- over: measurements
SELECT
    'run ' || f.run_id || ', prompt ' || f.prompt_id || ', position ' || f.pos || ', L' || f.layer || 'H'
        || f.head AS what
FROM measurements AS f
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE f.layer = m.n_layers - 1 AND (f.repair_attention <> 0 OR (m.parallel_blocks AND f.repair_mlp <> 0));

-- rule: the cross-check agrees
-- over: crosschecks
SELECT
    'run ' || c.run_id || ', prompt ' || c.prompt_id || ', L' || c.layer || 'H' || c.head || ', ' || c.ablation
        || ': ' || c.error_max || ' logits, ' || r.crosscheck_tolerance || ' allowed' AS what
FROM crosschecks AS c
JOIN runs AS r USING (run_id)
WHERE NOT c.error_max <= r.crosscheck_tolerance;

-- rule: mechanism tables hold only what the run measured
-- over: runs
WITH
found AS (
    SELECT DISTINCT 'edge_sums' AS name, run_id, ['edges'] AS brought_by FROM edge_sums
    UNION ALL
    SELECT DISTINCT 'neuron_changes', run_id, ['neurons_last', 'neurons_all'] FROM neuron_changes
    UNION ALL
    SELECT DISTINCT 'neuron_curves', run_id, ['neurons_last', 'neurons_all'] FROM neuron_curves
    UNION ALL
    SELECT DISTINCT 'neuron_sums', run_id, ['neurons_last', 'neurons_all'] FROM neuron_sums
    UNION ALL
    SELECT DISTINCT 'logit_lens', run_id, ['logit_lens'] FROM logit_lens
    UNION ALL
    SELECT DISTINCT 'logprob_changes', run_id, ['logprobs'] FROM logprob_changes
    UNION ALL
    SELECT DISTINCT 'self_repression', run_id, ['self_repression'] FROM self_repression
    UNION ALL
    SELECT DISTINCT 'self_repression_sums', run_id, ['self_repression'] FROM self_repression_sums
)
SELECT
    f.name || ' of run ' || f.run_id || ', which measured ' || coalesce(array_to_string(r.mechanisms, ', '), 'none') AS what
FROM found AS f
LEFT JOIN runs AS r USING (run_id)
WHERE NOT coalesce(list_has_any(r.mechanisms, f.brought_by), false);

-- rule: mechanisms cover every unit
-- over: runs
WITH
counted AS (
    SELECT
        run_id,
        'logit_lens' AS mechanism,
        (SELECT count(*) FROM logit_lens AS t WHERE t.run_id = r.run_id) AS n_found,
        (SELECT count(*) FROM tokens AS t WHERE t.run_id = r.run_id) * n_layers AS n_expected,
        'rows' AS of_what
    FROM runs AS r
    JOIN models USING (model_id)
    UNION ALL
    SELECT
        run_id,
        'logprobs',
        (SELECT count(*) FROM logprob_changes AS t WHERE t.run_id = r.run_id),
        (SELECT count(*) FROM measurements AS t WHERE t.run_id = r.run_id),
        'rows'
    FROM runs AS r
    UNION ALL
    SELECT
        run_id,
        'edges',
        (SELECT count(DISTINCT unit) FROM edge_sums AS t WHERE t.run_id = r.run_id),
        (SELECT count(*) FROM units AS t WHERE t.run_id = r.run_id),
        'units'
    FROM runs AS r
)
SELECT 'run ' || run_id || ': ' || mechanism || ' of ' || n_found || ' of ' || n_expected || ' ' || of_what AS what
FROM counted
JOIN runs USING (run_id)
WHERE list_contains(mechanisms, mechanism) AND n_found <> n_expected;

-- rule: edges add up to attention and MLP repair
-- over: edge_sums
WITH
measured AS (
    SELECT
        run_id, ablation, layer, head,
        count(*) AS n_rows,
        sum(repair_attention::DOUBLE) AS of_heads,
        sum(repair_mlp::DOUBLE) AS of_mlps
    FROM measurements
    GROUP BY run_id, ablation, layer, head
),
edged AS (
    SELECT
        run_id, ablation, layer, head,
        coalesce(sum(change) FILTER (target_kind = 'head'), 0) AS of_heads,
        coalesce(sum(change) FILTER (target_kind = 'mlp'), 0) AS of_mlps
    FROM edge_sums
    WHERE population = 'all'
    GROUP BY run_id, ablation, layer, head
)
SELECT
    'run ' || run_id || ', ' || ablation || ' of L' || layer || 'H' || head || ': heads ' || e.of_heads || ', repair '
        || m.of_heads || '; MLPs ' || e.of_mlps || ', repair ' || m.of_mlps AS what
FROM edged AS e
JOIN measured AS m USING (run_id, ablation, layer, head)
WHERE greatest(abs(e.of_heads - m.of_heads), abs(e.of_mlps - m.of_mlps)) > {EFFECT_STEP} * n_rows;

-- rule: neurons add up to the change of their MLP
-- over: neuron_sums
WITH
of_neurons AS (
    SELECT run_id, ablation, layer, head, mlp_layer, sum(change) AS change, sum(n_rows) AS n_rows
    FROM neuron_sums
    GROUP BY run_id, ablation, layer, head, mlp_layer
),
of_mlp AS (
    SELECT run_id, ablation, layer, head, target_layer AS mlp_layer, sum(change) AS change
    FROM edge_sums
    WHERE population = 'top2' AND target_kind = 'mlp'
    GROUP BY run_id, ablation, layer, head, target_layer
)
SELECT
    'run ' || run_id || ', ' || ablation || ' of L' || layer || 'H' || head || ', MLP ' || mlp_layer || ': '
        || n.change || ' and ' || m.change AS what
FROM of_neurons AS n
JOIN of_mlp AS m USING (run_id, ablation, layer, head, mlp_layer)
WHERE abs(n.change - m.change) > {EFFECT_STEP} * n.n_rows;

-- rule: kept neurons are ranked without gaps or repeats
-- over: neuron_changes, by unit
SELECT
    'run ' || $run_id || ', prompt ' || prompt_id || ', position ' || pos || ', ' || ablation || ' of L' || layer
        || 'H' || head || ', MLP ' || mlp_layer AS what
FROM neuron_changes
WHERE run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt
GROUP BY ablation, prompt_id, pos, layer, head, mlp_layer
HAVING count(*) <> max(rank) OR count(DISTINCT rank) <> count(*) OR count(DISTINCT neuron) <> count(*);

-- rule: the logit lens of the last layer is the clean prediction
-- over: logit_lens
SELECT
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ': ' || g.logprob || ' and '
        || t.clean_logprob AS what
FROM logit_lens AS g
JOIN tokens AS t USING (run_id, prompt_id, pos)
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE g.layer = m.n_layers - 1 AND (abs(g.logprob - t.clean_logprob) > {EFFECT_STEP} OR g.rank <> t.clean_rank);
