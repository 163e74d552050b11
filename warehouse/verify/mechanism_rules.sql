-- What holds in the tables of mechanisms of a sound warehouse, written as in rules.sql.

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
    SELECT DISTINCT 'routing_sums', run_id, ['experts'] FROM routing_sums
    UNION ALL
    SELECT DISTINCT 'expert_sums', run_id, ['experts'] FROM expert_sums
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
    f.run_id,
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
        -- with attention and MLP side by side, nothing comes after a head of the last layer
        CASE
            WHEN parallel_blocks AND len(list_filter(selected_heads, lambda h: NOT starts_with(h, 'L' || (n_layers - 1) || 'H'))) = 0
                THEN 0
            ELSE (SELECT count(*) FROM units AS t WHERE t.run_id = r.run_id)
        END,
        'units'
    FROM runs AS r
    JOIN models USING (model_id)
    UNION ALL
    SELECT
        run_id,
        'experts',
        n_found,
        -- heads of the first layer alone are sure to have experts above them
        CASE
            WHEN n_found = 0 AND (NOT list_has_any(selected_heads, first_heads) OR (parallel_blocks AND n_layers = 1)) THEN 0
            ELSE (SELECT count(*) FROM units AS t WHERE t.run_id = of_run.run_id)
        END,
        'units'
    FROM (
        SELECT
            run_id, selected_heads, parallel_blocks, n_layers,
            list_transform(range(n_heads), lambda h: 'L0H' || h) AS first_heads,
            (SELECT count(DISTINCT unit) FROM routing_sums AS t WHERE t.run_id = r.run_id) AS n_found
        FROM runs AS r
        JOIN models USING (model_id)
    ) AS of_run
    UNION ALL
    SELECT
        run_id,
        'self_repression',
        coalesce(min(n_found), 0),
        (SELECT count(*) FROM prompts AS t WHERE t.run_id = r.run_id),
        'prompts'
    FROM runs AS r
    LEFT JOIN (
        SELECT run_id, count(*) AS n_found
        FROM self_repression_sums
        GROUP BY run_id, layer, head, added_vector, multiple
    ) USING (run_id)
    GROUP BY run_id
)
SELECT run_id, 'run ' || run_id || ': ' || mechanism || ' of ' || n_found || ' of ' || n_expected || ' ' || of_what AS what
FROM counted
JOIN runs USING (run_id)
WHERE list_contains(mechanisms, mechanism) AND n_found <> n_expected;

-- rule: numbers of mechanisms are finite
-- over: runs
{NOT_FINITE};

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
    run_id,
    'run ' || run_id || ', ' || ablation || ' of L' || layer || 'H' || head || ': heads ' || e.of_heads || ', repair '
        || m.of_heads || '; MLPs ' || e.of_mlps || ', repair ' || m.of_mlps AS what
FROM edged AS e
JOIN measured AS m USING (run_id, ablation, layer, head)
LEFT JOIN runs AS r USING (run_id)
WHERE
    (
        abs(e.of_heads - m.of_heads) <= {PROJECTION_ERROR} * n_rows
        AND abs(e.of_mlps - m.of_mlps) <= {EFFECT_STEP} * n_rows
    ) IS NOT TRUE;

-- rule: experts and what is always on add up to the change of their MLP
-- over: routing_sums
WITH
of_experts AS (
    SELECT
        run_id, unit, ablation, layer, head, population, mlp_layer,
        sum(change) AS change,
        sum(clean_rows) AS chosen_experts,
        max(greatest(clean_rows, ablated_rows)) AS most_rows,
        max(expert) AS last_expert
    FROM expert_sums
    GROUP BY run_id, unit, ablation, layer, head, population, mlp_layer
),
of_mlps AS (
    SELECT
        run_id, unit, ablation, layer, head, population, mlp_layer,
        max(n_experts) AS n_experts,
        sum(n_rows) AS n_rows,
        min(rerouted_rows) AS least_rerouted,
        sum(rerouted_rows) AS rerouted_rows,
        sum(replaced_experts) AS replaced_experts,
        sum(chosen_experts) AS chosen_experts,
        sum(change) AS change,
        sum(shared_change) AS shared_change
    FROM routing_sums
    GROUP BY run_id, unit, ablation, layer, head, population, mlp_layer
)
SELECT
    run_id,
    'run ' || run_id || ', unit ' || unit || ', ' || population || ', ' || ablation || ' of L' || layer || 'H' || head
        || ', MLP ' || mlp_layer || ': ' || coalesce(e.change, 0) || ' and ' || coalesce(m.shared_change, 0) || '; its own '
        || coalesce(m.change, 0) AS what
FROM of_mlps AS m
FULL JOIN of_experts AS e USING (run_id, unit, ablation, layer, head, population, mlp_layer)
LEFT JOIN runs AS r USING (run_id)
WHERE
    (
        abs(coalesce(e.change, 0) + m.shared_change - m.change) <= {PROJECTION_ERROR} * m.n_rows
        AND coalesce(e.chosen_experts, 0) = m.chosen_experts
        AND coalesce(e.most_rows, 0) <= m.n_rows
        AND coalesce(e.last_expert, 0) < m.n_experts
        AND m.least_rerouted >= 0
        AND m.rerouted_rows <= m.n_rows
        AND m.replaced_experts BETWEEN 0 AND m.chosen_experts
    ) IS NOT TRUE;

-- rule: MLPs with experts change as their edges say
-- over: routing_sums
WITH
of_experts AS (
    SELECT run_id, ablation, layer, head, population, mlp_layer, sum(change) AS change, sum(n_rows) AS n_rows
    FROM routing_sums
    GROUP BY run_id, ablation, layer, head, population, mlp_layer
),
of_mlp AS (
    SELECT
        run_id, ablation, layer, head, population, target_layer AS mlp_layer, sum(change) AS change, sum(n_rows) AS n_rows
    FROM edge_sums
    WHERE target_kind = 'mlp'
    GROUP BY run_id, ablation, layer, head, population, target_layer
),
mlps AS (
    SELECT DISTINCT run_id, mlp_layer
    FROM routing_sums
)
SELECT
    run_id,
    'run ' || run_id || ', ' || m.population || ', ' || ablation || ' of L' || layer || 'H' || head || ', MLP ' || mlp_layer
        || ': ' || coalesce(e.change, 0) || ' in ' || coalesce(e.n_rows, 0) || ' rows; its edge ' || m.change || ' in '
        || m.n_rows AS what
FROM of_mlp AS m
SEMI JOIN mlps USING (run_id, mlp_layer)
LEFT JOIN of_experts AS e USING (run_id, ablation, layer, head, population, mlp_layer)
LEFT JOIN runs AS r USING (run_id)
WHERE (e.n_rows = m.n_rows AND abs(e.change - m.change) <= {PROJECTION_ERROR} * m.n_rows) IS NOT TRUE;

-- rule: neurons add up to the change of their MLP
-- over: neuron_sums
WITH
of_neurons AS (
    SELECT run_id, ablation, layer, head, mlp_layer, sum(change) AS change, sum(n_rows) AS n_rows
    FROM neuron_sums
    WHERE population = 'top2'
    GROUP BY run_id, ablation, layer, head, mlp_layer
),
of_mlp AS (
    SELECT run_id, ablation, layer, head, target_layer AS mlp_layer, sum(change) AS change, sum(n_rows) AS n_rows
    FROM edge_sums
    WHERE population = 'top2' AND target_kind = 'mlp'
    GROUP BY run_id, ablation, layer, head, target_layer
),
mlps AS (
    SELECT DISTINCT run_id, mlp_layer
    FROM neuron_sums
)
SELECT
    run_id,
    'run ' || run_id || ', ' || ablation || ' of L' || layer || 'H' || head || ', MLP ' || mlp_layer || ': '
        || coalesce(n.change, 0) || ' in ' || coalesce(n.n_rows, 0) || ' rows; its own ' || m.change || ' in '
        || m.n_rows AS what
FROM of_mlp AS m
SEMI JOIN mlps USING (run_id, mlp_layer)
LEFT JOIN of_neurons AS n USING (run_id, ablation, layer, head, mlp_layer)
LEFT JOIN runs AS r USING (run_id)
WHERE (n.n_rows = m.n_rows AND abs(n.change - m.change) <= {PROJECTION_ERROR} * n.n_rows) IS NOT TRUE;

-- rule: neurons of all MLPs add up to MLP repair
-- over: neuron_sums
WITH
of_neurons AS (
    SELECT
        run_id, ablation, layer, head, population::VARCHAR AS population,
        sum(change) AS change,
        sum(n_rows) / count(DISTINCT mlp_layer) AS n_rows,
        count(DISTINCT mlp_layer) AS n_mlps
    FROM neuron_sums
    GROUP BY run_id, ablation, layer, head, population
),
kept AS (
    SELECT DISTINCT run_id, ablation, layer, head, prompt_id, pos, in_top2, in_top2_nobos
    FROM neuron_changes
    WHERE rank = 1
),
members AS (
    SELECT 'top2' AS population, kept.* FROM kept WHERE in_top2
    UNION ALL
    SELECT 'top2_nobos', kept.* FROM kept WHERE in_top2_nobos
),
measured AS (
    SELECT run_id, ablation, layer, head, population, sum(repair_mlp::DOUBLE) AS repair_mlp, count(*) AS n_rows
    FROM members
    JOIN measurements USING (run_id, ablation, layer, head, prompt_id, pos)
    GROUP BY run_id, ablation, layer, head, population
)
SELECT
    run_id,
    'run ' || run_id || ', ' || population || ', ' || ablation || ' of L' || layer || 'H' || head || ': ' || n.change || ' in '
        || n.n_rows || ' rows; repair ' || coalesce(m.repair_mlp, 0) || ' in the ' || coalesce(m.n_rows, 0)
        || ' in which a neuron changes' AS what
FROM of_neurons AS n
JOIN runs AS r USING (run_id)
JOIN models AS d USING (model_id)
LEFT JOIN measured AS m USING (run_id, ablation, layer, head, population)
WHERE
    n_mlps = d.n_layers - layer - d.parallel_blocks::INTEGER
    AND (
        coalesce(m.n_rows, 0) <= n.n_rows
        -- of rows that are not kept, each neuron changes by less than half a step
        AND abs(n.change - coalesce(m.repair_mlp, 0))
            <= ({PROJECTION_ERROR} * n_mlps + {EFFECT_STEP}) * n.n_rows
            + {EFFECT_STEP} / 2 * n_mlps * d.d_mlp * (n.n_rows - coalesce(m.n_rows, 0))
    ) IS NOT TRUE;

-- rule: kept neurons are of the tops that they say
-- over: neuron_changes, by unit
SELECT
    run_id,
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', ' || ablation || ' of L' || layer
        || 'H' || head || ', MLP ' || mlp_layer AS what
FROM neuron_changes
WHERE {OF_UNIT} AND ((in_top2 OR in_top2_nobos) IS NOT TRUE OR (in_top2_nobos AND pos = 0))
GROUP BY run_id, ablation, prompt_id, pos, layer, head, mlp_layer;

-- rule: kept neurons are ranked without gaps or repeats
-- over: neuron_changes, by unit
SELECT
    run_id,
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ', ' || ablation || ' of L' || layer
        || 'H' || head || ', MLP ' || mlp_layer AS what
FROM neuron_changes
WHERE {OF_UNIT}
GROUP BY run_id, ablation, prompt_id, pos, layer, head, mlp_layer
HAVING count(*) <> max(rank) OR count(DISTINCT rank) <> count(*) OR count(DISTINCT neuron) <> count(*);

-- rule: the logit lens of the last layer is the clean prediction
-- over: logit_lens
SELECT
    run_id,
    'run ' || run_id || ', prompt ' || prompt_id || ', position ' || pos || ': ' || g.logprob || ' and '
        || t.clean_logprob AS what
FROM logit_lens AS g
JOIN tokens AS t USING (run_id, prompt_id, pos)
JOIN runs AS r USING (run_id)
JOIN models AS m USING (model_id)
WHERE g.layer = m.n_layers - 1 AND (abs(g.logprob - t.clean_logprob) <= {EFFECT_STEP} AND g.rank = t.clean_rank) IS NOT TRUE;
