"""The rows that must be there, once, and what they must refer to."""

from selfrepair.warehouse.verify.rule import Rule


def _orphans(table: str, label: str, parent: str, keys: str) -> str:
    return f"""
        SELECT DISTINCT '{table} of {label} ' || concat_ws('/', {keys}) || ': no such row in {parent}' AS what
        FROM {table}
        ANTI JOIN {parent} USING ({keys})
    """


_UNIT_ROWS = """
    WITH
    counted AS (
        SELECT run_id, prompt_id, count(*) AS n_rows
        FROM measurements
        GROUP BY run_id, prompt_id
    ),
    prompted AS (
        SELECT run_id, prompt_id, 1 AS n_prompts
        FROM prompts
    )
    SELECT
        'run ' || u.run_id || ', unit ' || u.unit || ': ' || coalesce(sum(c.n_rows), 0) || ' rows of '
            || coalesce(sum(p.n_prompts), 0) || ' prompts, and ' || u.n_measurements || ' of ' || u.n_prompts
            || ' in the ledger' AS what
    FROM units AS u
    LEFT JOIN prompted AS p
        ON p.run_id = u.run_id AND p.prompt_id BETWEEN u.first_prompt AND u.first_prompt + u.n_prompts - 1
    LEFT JOIN counted AS c ON c.run_id = p.run_id AND c.prompt_id = p.prompt_id
    GROUP BY u.run_id, u.unit, u.n_measurements, u.n_prompts
    HAVING coalesce(sum(c.n_rows), 0) <> u.n_measurements OR coalesce(sum(p.n_prompts), 0) <> u.n_prompts
"""

_NO_UNIT = """
    SELECT 'run ' || p.run_id || ', prompt ' || p.prompt_id || ': in no unit of the ledger' AS what
    FROM prompts AS p
    WHERE NOT EXISTS (
        SELECT 1
        FROM units AS u
        WHERE u.run_id = p.run_id AND p.prompt_id BETWEEN u.first_prompt AND u.first_prompt + u.n_prompts - 1
    )
"""

_TOTALS = """
    SELECT
        'run ' || r.run_id || ': ' || sum(u.n_measurements) || ' rows of ' || sum(u.n_prompts) || ' prompts, and '
            || r.n_measurements || ' of ' || r.n_prompts || ' were to come' AS what
    FROM runs AS r
    JOIN units AS u USING (run_id)
    GROUP BY r.run_id, r.n_measurements, r.n_prompts, r.n_units
    HAVING
        count(*) > r.n_units
        OR (
            count(*) = r.n_units
            AND (sum(u.n_measurements) <> r.n_measurements OR sum(u.n_prompts) <> r.n_prompts)
        )
"""

_STATUS = """
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
            ELSE 'running'
        END::run_status
"""

_KEYS = """
    SELECT
        'run ' || $run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ': '
            || count(*) || ' rows for ' || count(DISTINCT ablation) || ' ablations' AS what
    FROM measurements
    WHERE run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt
    GROUP BY prompt_id, pos, layer, head
    HAVING count(*) <> bit_count(bit_or(1 << enum_code(ablation)::INTEGER))
"""

_TWINS = """
    SELECT '{table} ' || string_agg({key}, ', ' ORDER BY {key}) AS what
    FROM {table}
    GROUP BY {columns}
    HAVING count(*) > 1
"""

_MEASURED_TOKENS = """
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
        OR f.last_pos > len(p.token_ids) - 2
"""

_HEADS = """
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
        OR f.head NOT BETWEEN 0 AND m.n_heads - 1
"""

_TOKENS = """
    SELECT 'run ' || t.run_id || ', prompt ' || t.prompt_id || ', position ' || t.pos AS what
    FROM tokens AS t
    JOIN prompts AS p USING (run_id, prompt_id)
    JOIN runs AS r USING (run_id)
    WHERE
        t.token_id IS DISTINCT FROM p.token_ids[t.pos + 1]
        OR t.target_id IS DISTINCT FROM p.token_ids[t.pos + 2]
        OR (t.foil_id IS NOT NULL) <> (coalesce(r.logit_of, '') = 'answer_minus_foil')
        OR t.foil_id = t.target_id
"""

_TOKEN_COUNT = """
    SELECT
        'run ' || p.run_id || ', prompt ' || p.prompt_id || ': ' || count(t.pos) || ' rows of tokens for '
            || len(p.token_ids) || ' tokens' AS what
    FROM prompts AS p
    JOIN runs AS r USING (run_id)
    LEFT JOIN tokens AS t USING (run_id, prompt_id)
    GROUP BY p.run_id, p.prompt_id, p.token_ids, r.logit_of
    HAVING count(t.pos) <> CASE WHEN coalesce(r.logit_of, 'next_token') = 'next_token' THEN len(p.token_ids) - 1 ELSE 1 END
"""

_PARTNERS = """
    SELECT
        'run ' || p.run_id || ', prompt ' || p.prompt_id || ': partner ' || coalesce(p.partner_id::VARCHAR, 'NULL')
            AS what
    FROM prompts AS p
    JOIN runs AS r USING (run_id)
    WHERE
        (p.partner_id IS NOT NULL) <> list_contains(r.ablations, 'resample')
        OR p.partner_id = p.prompt_id
        OR p.partner_id NOT BETWEEN 0 AND r.n_prompts - 1
"""

STRUCTURE_RULES = (
    Rule("each unit has the rows of its ledger", "units", _UNIT_ROWS),
    Rule("each prompt is in a unit", "prompts", _NO_UNIT),
    Rule("whole runs have all their rows", "runs", _TOTALS),
    Rule("status and errors of runs follow from their parts", "runs", _STATUS),
    Rule("no row is there twice", "measurements", _KEYS, by_unit=True),
    Rule(
        "no model is there twice",
        "models",
        _TWINS.format(table="models", key="model_id", columns="name, revision, checkpoint, weights_sha256"),
    ),
    Rule(
        "no dataset is there twice",
        "datasets",
        _TWINS.format(
            table="datasets", key="dataset_id", columns="name, split, revision, packing, seq_len, fingerprint"
        ),
    ),
    Rule("runs have a model", "runs", _orphans("runs", "model", "models", "model_id")),
    Rule("runs have a dataset", "runs", _orphans("runs", "dataset", "datasets", "dataset_id")),
    Rule("units have a run", "units", _orphans("units", "run", "runs", "run_id")),
    Rule("prompts have a run", "prompts", _orphans("prompts", "run", "runs", "run_id")),
    Rule("tokens have a prompt", "tokens", _orphans("tokens", "run/prompt", "prompts", "run_id, prompt_id")),
    Rule(
        "cross-checks have a prompt",
        "crosschecks",
        _orphans("crosschecks", "run/prompt", "prompts", "run_id, prompt_id"),
    ),
    Rule("measurements have a token", "measurements", _MEASURED_TOKENS),
    Rule("measured heads and ablations are the run's", "measurements", _HEADS),
    Rule("tokens and targets are the prompt's", "tokens", _TOKENS),
    Rule("each prompt has all its tokens", "prompts", _TOKEN_COUNT),
    Rule("partners are other prompts of the run, where it resamples", "prompts", _PARTNERS),
)
"""In the order in which they are told."""
