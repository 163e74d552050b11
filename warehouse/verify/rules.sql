-- Everything that holds in a sound warehouse, in the order of the report; mechanism_rules.sql follows. Each rule is a
-- query that returns one row per violation: `run_id`, the run it is found in (NULL: in no run's rows), and `what`, which
-- describes it.
--
--   rule   what holds
--   over   the table that is checked; `by unit`: once for each unit, whose rows OF_UNIT selects. Over measurements, a
--          rule aggregates to prompts or heads at most or runs by unit, so that memory stays bounded however many rows
--          there are.
--
-- Names in braces stand for values of rules.py. `selfrepair verify` reports every rule; the view broken_rules is made of
-- the same queries.

-- rule: each unit has the rows its ledger entry states
-- over: units
WITH
counted AS (
    SELECT run_id, prompt_id, count(*) AS n_rows
    FROM measurements
    GROUP BY run_id, prompt_id
)
SELECT
    u.run_id,
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
SELECT p.run_id, 'run ' || p.run_id || ', prompt ' || p.prompt_id || ': in no unit of the ledger' AS what
FROM prompts AS p
ASOF LEFT JOIN units AS u ON u.run_id = p.run_id AND u.first_prompt <= p.prompt_id
WHERE u.run_id IS NULL OR p.prompt_id > u.first_prompt + u.n_prompts - 1;

-- rule: runs with all their units have all their rows
-- over: runs
SELECT
    r.run_id,
    'run ' || r.run_id || ': ' || sum(u.n_measurements) || ' rows of ' || sum(u.n_prompts) || ' prompts; expected '
        || r.n_measurements || ' of ' || r.n_prompts AS what
FROM runs AS r
JOIN units AS u USING (run_id)
GROUP BY r.run_id, r.n_measurements, r.n_prompts, r.n_units
HAVING
    count(*) > r.n_units
    OR sum(u.n_measurements) > r.n_measurements
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
    r.run_id,
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
    run_id,
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ': '
        || count(*) || ' rows for ' || bit_count(bit_or(1 << enum_code(ablation)::INTEGER)) || ' ablations' AS what
FROM measurements
WHERE {OF_UNIT}
GROUP BY run_id, prompt_id, pos, layer, head
HAVING count(*) <> bit_count(bit_or(1 << enum_code(ablation)::INTEGER));

-- rule: no model appears twice
-- over: models
SELECT NULL::INTEGER AS run_id, 'models ' || string_agg(model_id, ', ' ORDER BY model_id) AS what
FROM models
GROUP BY name, revision, checkpoint, weights_sha256, config_sha256
HAVING count(*) > 1;

-- rule: no dataset appears twice
-- over: datasets
SELECT NULL::INTEGER AS run_id, 'datasets ' || string_agg(dataset_id, ', ' ORDER BY dataset_id) AS what
FROM datasets
GROUP BY name, split, revision, packing, seq_len, fingerprint
HAVING count(*) > 1;

-- rule: runs have a model
-- over: runs
SELECT run_id, 'run ' || run_id || ' of model ' || model_id || ': no such row in models' AS what
FROM runs
ANTI JOIN models USING (model_id);

-- rule: runs have a dataset
-- over: runs
SELECT run_id, 'run ' || run_id || ' of dataset ' || dataset_id || ': no such row in datasets' AS what
FROM runs
ANTI JOIN datasets USING (dataset_id);

-- rule: units have a run
-- over: units
SELECT DISTINCT run_id, 'units of run ' || run_id || ': no such row in runs' AS what
FROM units
ANTI JOIN runs USING (run_id);

-- rule: prompts have a run
-- over: prompts
SELECT DISTINCT run_id, 'prompts of run ' || run_id || ': no such row in runs' AS what
FROM prompts
ANTI JOIN runs USING (run_id);

-- rule: tokens have a prompt
-- over: tokens
SELECT DISTINCT run_id, 'tokens of run ' || run_id || ', prompt ' || prompt_id || ': no such row in prompts' AS what
FROM tokens
ANTI JOIN prompts USING (run_id, prompt_id);

-- rule: cross-checks have a prompt
-- over: crosschecks
WITH
awaited AS (
    SELECT run_id, n_prompts
    FROM runs AS r
    WHERE n_units > (SELECT count(*) FROM units AS u WHERE u.run_id = r.run_id)
)
SELECT DISTINCT
    c.run_id,
    'crosschecks of run ' || c.run_id || ', prompt ' || c.prompt_id || ': no such row in prompts' AS what
FROM crosschecks AS c
ANTI JOIN prompts AS p USING (run_id, prompt_id)
LEFT JOIN awaited AS a USING (run_id)
WHERE (c.prompt_id BETWEEN 0 AND a.n_prompts - 1) IS NOT TRUE;

-- rule: measurements have a token
-- over: measurements
WITH
found AS (
    SELECT run_id, prompt_id, min(pos) AS first_pos, max(pos) AS last_pos
    FROM measurements
    GROUP BY run_id, prompt_id
)
SELECT
    f.run_id,
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
SELECT f.run_id, concat('run ', f.run_id, ': ', f.ablation, ' of L', f.layer, 'H', f.head) AS what
FROM found AS f
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE
    (
        list_contains(r.selected_heads, 'L' || f.layer || 'H' || f.head)
        AND list_contains(r.ablations, f.ablation)
        AND f.layer BETWEEN 0 AND m.n_layers - 1
        AND f.head BETWEEN 0 AND m.n_heads - 1
    ) IS NOT TRUE;

-- rule: tokens and targets match the prompt
-- over: tokens
SELECT t.run_id, 'run ' || t.run_id || ', prompt ' || t.prompt_id || ', position ' || t.pos AS what
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
WITH
counted AS (
    SELECT run_id, prompt_id, count(*) AS n_rows
    FROM tokens
    GROUP BY run_id, prompt_id
)
SELECT
    p.run_id,
    'run ' || p.run_id || ', prompt ' || p.prompt_id || ': ' || coalesce(c.n_rows, 0) || ' rows of tokens for '
        || len(p.token_ids) || ' tokens' AS what
FROM prompts AS p
JOIN runs AS r USING (run_id)
LEFT JOIN counted AS c USING (run_id, prompt_id)
WHERE
    coalesce(c.n_rows, 0)
    <> CASE WHEN coalesce(r.logit_of, 'next_token') = 'next_token' THEN len(p.token_ids) - 1 ELSE 1 END;

-- rule: resample partners are other prompts of the run
-- over: prompts
SELECT
    p.run_id,
    'run ' || p.run_id || ', prompt ' || p.prompt_id || ': partner ' || coalesce(p.partner_id::VARCHAR, 'NULL') AS what
FROM prompts AS p
JOIN runs AS r USING (run_id)
WHERE
    (p.partner_id IS NOT NULL) <> list_contains(r.ablations, 'resample')
    OR p.partner_id = p.prompt_id
    OR p.partner_id NOT BETWEEN 0 AND r.n_prompts - 1;

-- rule: whole runs have the prompts of their dataset
-- over: prompts
WITH
lines AS (
    SELECT
        p.run_id,
        p.prompt_id,
        sha256(concat_ws(' ', p.token_ids::VARCHAR, p.document_id, nullif(r.logit_of, 'next_token'), f.foil_id)) AS line
    FROM prompts AS p
    JOIN runs AS r USING (run_id)
    LEFT JOIN (
        SELECT run_id, prompt_id, any_value(foil_id) AS foil_id
        FROM tokens
        WHERE foil_id IS NOT NULL
        GROUP BY run_id, prompt_id
    ) AS f USING (run_id, prompt_id)
),
found AS (
    SELECT run_id, count(*) AS n_prompts, sha256(string_agg(line, '' ORDER BY prompt_id)) AS fingerprint
    FROM lines
    GROUP BY run_id
)
SELECT run_id, 'run ' || run_id || ': the fingerprint of its prompts is ' || f.fingerprint AS what
FROM found AS f
JOIN runs AS r USING (run_id, n_prompts)
JOIN models USING (model_id)
JOIN datasets AS d USING (dataset_id)
-- Version 0.1, which recorded no configuration, made other fingerprints.
WHERE config_sha256 IS NOT NULL AND len(d.fingerprint) = len(f.fingerprint) AND d.fingerprint <> f.fingerprint;

-- rule: effects are finite
-- over: measurements
SELECT run_id, 'measurements of run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos AS what
FROM measurements
WHERE ({FINITE_EFFECTS}) IS NOT TRUE;

-- rule: clean predictions are finite
-- over: tokens
SELECT run_id, 'tokens of run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos AS what
FROM tokens
WHERE
    (
        isfinite(clean_logit) AND isfinite(clean_logprob) AND isfinite(clean_entropy) AND isfinite(clean_ln_scale)
        AND clean_rank >= 1
    ) IS NOT TRUE;

-- rule: direct effect is the same under every ablation
-- over: measurements, by unit
SELECT
    run_id,
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ': '
        || min(direct_effect) || ' and ' || max(direct_effect) AS what
FROM measurements
WHERE {OF_UNIT}
GROUP BY run_id, prompt_id, pos, layer, head
HAVING min(direct_effect) <> max(direct_effect);

-- rule: the identity held to {IDENTITY_ERROR_LIMIT:g} logits when measured, or to the same share of large effects
-- over: units
WITH suspects AS (
    SELECT run_id, unit, first_prompt, first_prompt + n_prompts - 1 AS last_prompt, identity_error_max
    FROM units
    WHERE (identity_error_max <= {IDENTITY_ERROR_LIMIT}) IS NOT TRUE
)
SELECT
    s.run_id,
    'run ' || s.run_id || ', unit ' || s.unit || ': ' || coalesce(s.identity_error_max::VARCHAR, 'no') || ' logits' AS what
FROM suspects AS s
LEFT JOIN measurements AS m ON m.run_id = s.run_id AND m.prompt_id BETWEEN s.first_prompt AND s.last_prompt
GROUP BY s.run_id, s.unit, s.identity_error_max
HAVING (s.identity_error_max <= coalesce(max({TIMES_THE_LIMIT}), 1) * {IDENTITY_ERROR_LIMIT}) IS NOT TRUE;

-- rule: the identity holds in the stored rows
-- over: measurements
SELECT
    run_id,
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ', '
        || ablation AS what
FROM measurements
WHERE {IDENTITY_EXCESS} > 1;

-- rule: heads of the last layer have no attention repair, and in parallel blocks no MLP repair
-- over: measurements
SELECT
    f.run_id,
    'run ' || f.run_id || ', prompt ' || f.prompt_id || ', position ' || f.pos || ', L' || f.layer || 'H'
        || f.head AS what
FROM measurements AS f
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE f.layer = m.n_layers - 1 AND (f.repair_attention <> 0 OR (m.parallel_blocks AND f.repair_mlp <> 0));

-- rule: post-norm repair is there where the model has post-norms, and nowhere else
-- over: measurements
SELECT
    f.run_id,
    'run ' || f.run_id || ', prompt ' || f.prompt_id || ': ' || count(*) || ' rows '
        || if(m.post_norms, 'without it', 'with it') AS what
FROM measurements AS f
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE (f.repair_post_norm IS NOT NULL) <> m.post_norms
GROUP BY f.run_id, f.prompt_id, m.post_norms;

-- rule: the cross-check agrees
-- over: crosschecks
SELECT
    c.run_id,
    'run ' || c.run_id || ', prompt ' || c.prompt_id || ', L' || c.layer || 'H' || c.head || ', ' || c.ablation
        || ': ' || coalesce(c.error_max::VARCHAR, 'no') || ' logits, ' || r.crosscheck_tolerance || ' allowed' AS what
FROM crosschecks AS c
JOIN runs AS r USING (run_id)
WHERE (c.error_max <= r.crosscheck_tolerance) IS NOT TRUE;
