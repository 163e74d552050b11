"""What must hold between the mechanisms and the rows they belong to."""

from selfrepair.warehouse.schema import EFFECT_STEP
from selfrepair.warehouse.verify.rule import Rule

_TABLES = {
    "edge_sums": ("edges",),
    "neuron_changes": ("neurons_last", "neurons_all"),
    "neuron_curves": ("neurons_last", "neurons_all"),
    "neuron_sums": ("neurons_last", "neurons_all"),
    "logit_lens": ("logit_lens",),
    "logprob_changes": ("logprobs",),
    "self_repression": ("self_repression",),
    "self_repression_sums": ("self_repression",),
}
"""The mechanisms that bring a table its rows."""

_NOT_ASKED_FOR = "\nUNION ALL\n".join(
    f"""
    SELECT DISTINCT '{table} of run ' || t.run_id || ': its mechanisms are ' || coalesce(r.mechanisms::VARCHAR, 'none') AS what
    FROM {table} AS t
    LEFT JOIN runs AS r USING (run_id)
    WHERE NOT coalesce(list_has_any(r.mechanisms, {list(mechanisms)}), false)
    """
    for table, mechanisms in _TABLES.items()
)

_INCOMPLETE = """
    WITH
    measured AS (
        SELECT run_id, count(*) AS n_rows
        FROM measurements
        GROUP BY run_id
    ),
    asked AS (
        SELECT run_id, count(*) AS n_rows
        FROM tokens
        GROUP BY run_id
    ),
    read AS (
        SELECT run_id, count(*) AS n_rows
        FROM logit_lens
        GROUP BY run_id
    ),
    compared AS (
        SELECT run_id, count(*) AS n_rows
        FROM logprob_changes
        GROUP BY run_id
    ),
    edged AS (
        SELECT run_id, count(DISTINCT unit) AS n_units
        FROM edge_sums
        GROUP BY run_id
    ),
    loaded AS (
        SELECT run_id, count(*) AS n_units
        FROM units
        GROUP BY run_id
    )
    SELECT 'run ' || r.run_id || ': logit_lens at ' || coalesce(g.n_rows, 0) || ' of ' || a.n_rows * m.n_layers AS what
    FROM runs AS r
    JOIN models AS m USING (model_id)
    JOIN asked AS a USING (run_id)
    LEFT JOIN read AS g USING (run_id)
    WHERE list_contains(r.mechanisms, 'logit_lens') AND coalesce(g.n_rows, 0) <> a.n_rows * m.n_layers
    UNION ALL
    SELECT 'run ' || r.run_id || ': log-probabilities of ' || coalesce(c.n_rows, 0) || ' of ' || d.n_rows || ' rows'
    FROM runs AS r
    JOIN measured AS d USING (run_id)
    LEFT JOIN compared AS c USING (run_id)
    WHERE list_contains(r.mechanisms, 'logprobs') AND coalesce(c.n_rows, 0) <> d.n_rows
    UNION ALL
    SELECT 'run ' || r.run_id || ': edges of ' || coalesce(e.n_units, 0) || ' of ' || l.n_units || ' units'
    FROM runs AS r
    JOIN loaded AS l USING (run_id)
    LEFT JOIN edged AS e USING (run_id)
    WHERE list_contains(r.mechanisms, 'edges') AND coalesce(e.n_units, 0) <> l.n_units
"""

_EDGE_SUMS = f"""
    WITH
    measured AS (
        SELECT
            run_id,
            ablation,
            layer,
            head,
            count(*) AS n_rows,
            sum(repair_attention::DOUBLE) AS of_heads,
            sum(repair_mlp::DOUBLE) AS of_mlps
        FROM measurements
        GROUP BY run_id, ablation, layer, head
    ),
    edged AS (
        SELECT
            run_id,
            ablation,
            layer,
            head,
            coalesce(sum(change) FILTER (target_kind = 'head'), 0) AS of_heads,
            coalesce(sum(change) FILTER (target_kind = 'mlp'), 0) AS of_mlps
        FROM edge_sums
        WHERE population = 'all'
        GROUP BY run_id, ablation, layer, head
    )
    SELECT
        'run ' || run_id || ', ' || ablation || ' of L' || layer || 'H' || head || ': heads ' || e.of_heads || ' and '
            || m.of_heads || ', MLPs ' || e.of_mlps || ' and ' || m.of_mlps AS what
    FROM edged AS e
    JOIN measured AS m USING (run_id, ablation, layer, head)
    WHERE greatest(abs(e.of_heads - m.of_heads), abs(e.of_mlps - m.of_mlps)) > {EFFECT_STEP} * n_rows
"""

_NEURON_SUMS = f"""
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
    WHERE abs(n.change - m.change) > {EFFECT_STEP} * n.n_rows
"""

_RANKS = """
    SELECT
        'run ' || $run_id || ', prompt ' || prompt_id || ', position ' || pos || ', ' || ablation || ' of L' || layer
            || 'H' || head || ', MLP ' || mlp_layer AS what
    FROM neuron_changes
    WHERE run_id = $run_id AND prompt_id BETWEEN $first_prompt AND $last_prompt
    GROUP BY ablation, prompt_id, pos, layer, head, mlp_layer
    HAVING count(*) <> max(rank) OR count(DISTINCT rank) <> count(*) OR count(DISTINCT neuron) <> count(*)
"""

_LAST_LAYER = f"""
    SELECT
        'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ': ' || g.logprob || ' and '
            || t.clean_logprob AS what
    FROM logit_lens AS g
    JOIN tokens AS t USING (run_id, prompt_id, pos)
    JOIN runs AS r USING (run_id)
    JOIN models AS m USING (model_id)
    WHERE g.layer = m.n_layers - 1 AND (abs(g.logprob - t.clean_logprob) > {EFFECT_STEP} OR g.rank <> t.clean_rank)
"""

MECHANISM_RULES = (
    Rule("mechanisms are those the run measured", "runs", _NOT_ASKED_FOR),
    Rule("mechanisms are there for every unit", "runs", _INCOMPLETE),
    Rule("edges add up to the repair by attention and MLPs", "edge_sums", _EDGE_SUMS),
    Rule("neurons add up to the change of their MLP", "neuron_sums", _NEURON_SUMS),
    Rule("kept neurons are ranked, each once", "neuron_changes", _RANKS, by_unit=True),
    Rule("the logit lens of the last layer is the clean prediction", "logit_lens", _LAST_LAYER),
)
"""In the order in which they are told."""
