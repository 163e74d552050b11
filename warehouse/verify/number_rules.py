"""What must hold between the numbers of a row, and between rows."""

from selfrepair.warehouse.schema import EFFECT_STEP, EFFECTS, IDENTITY_ERROR_LIMIT
from selfrepair.warehouse.verify.rule import Rule

_ROUNDING = 6 * EFFECT_STEP / 2
"""The identity adds six numbers, each rounded by up to half a step [logits]."""

_CLEAN = ("clean_logit", "clean_logprob", "clean_entropy", "clean_ln_scale")


def _infinite(table: str, columns: tuple[str, ...]) -> str:
    finite = " AND ".join(f"isfinite({column})" for column in columns)
    return f"""
        SELECT '{table} of run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos AS what
        FROM {table}
        WHERE NOT ({finite})
    """


_SAME_DIRECT_EFFECT = """
    SELECT
        'run ' || $run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ': '
            || min(direct_effect) || ' and ' || max(direct_effect) AS what
    FROM measurements
    WHERE run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt
    GROUP BY prompt_id, pos, layer, head
    HAVING min(direct_effect) <> max(direct_effect)
"""

_IDENTITY_LEDGER = f"""
    SELECT 'run ' || run_id || ', unit ' || unit || ': ' || identity_error_max || ' logits' AS what
    FROM units
    WHERE NOT identity_error_max <= {IDENTITY_ERROR_LIMIT}
"""

_IDENTITY_ROWS = f"""
    SELECT
        'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', L' || layer || 'H' || head || ', '
            || ablation AS what
    FROM measurements
    WHERE
        abs(
            logit_change::DOUBLE - (ablated_direct_effect::DOUBLE - direct_effect)
            - (repair_layernorm::DOUBLE + repair_attention + repair_mlp)
        ) > {IDENTITY_ERROR_LIMIT + _ROUNDING}
"""

_LAST_LAYER = """
    SELECT
        'run ' || f.run_id || ', prompt ' || f.prompt_id || ', position ' || f.pos || ', L' || f.layer || 'H'
            || f.head AS what
    FROM measurements AS f
    JOIN runs AS r USING (run_id)
    JOIN models AS m USING (model_id)
    WHERE f.layer = m.n_layers - 1 AND (f.repair_attention <> 0 OR (m.parallel_blocks AND f.repair_mlp <> 0))
"""

_CROSSCHECK = """
    SELECT
        'run ' || c.run_id || ', prompt ' || c.prompt_id || ', L' || c.layer || 'H' || c.head || ', ' || c.ablation
            || ': ' || c.error_max || ' logits, ' || r.crosscheck_tolerance || ' allowed' AS what
    FROM crosschecks AS c
    JOIN runs AS r USING (run_id)
    WHERE NOT c.error_max <= r.crosscheck_tolerance
"""

NUMBER_RULES = (
    Rule("effects are finite", "measurements", _infinite("measurements", EFFECTS)),
    Rule("clean answers are finite", "tokens", _infinite("tokens", _CLEAN)),
    Rule("direct effect is the same under each ablation", "measurements", _SAME_DIRECT_EFFECT, by_unit=True),
    Rule(f"the identity held to {IDENTITY_ERROR_LIMIT:g} logits when measured", "units", _IDENTITY_LEDGER),
    Rule("the identity holds in the stored rows", "measurements", _IDENTITY_ROWS),
    Rule("nothing repairs after the last layer", "measurements", _LAST_LAYER),
    Rule("the slow way agrees", "crosschecks", _CROSSCHECK),
)
"""In the order in which they are told."""
