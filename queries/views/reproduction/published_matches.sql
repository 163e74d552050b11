-- Building block: which runs measured a model of the paper: its final weights, with no head ablated beforehand.
--
-- Grain: run_id, published_model
-- Paper: none
--
-- A measured model is recognised by the last part of its name, whatever the case, and must have as many layers and
-- heads as the published one, where those are known. Its final weights are those of no revision or of main. Runs of
-- another revision or of a training checkpoint, with given heads, of answers, and failed ones do not count.

WITH published_models AS (
    SELECT published_model, hub_name, max(layer) + 1 AS n_layers, max(head) + 1 AS n_heads
    FROM published_head_repair
    GROUP BY published_model, hub_name
    UNION ALL
    SELECT DISTINCT published_model, hub_name, NULL, NULL
    FROM published_self_repression
    ANTI JOIN published_head_repair USING (published_model)
)
SELECT runs.run_id, models.name AS model, published_models.published_model
FROM runs
INNER JOIN models USING (model_id)
INNER JOIN published_models ON published_models.hub_name = lower(split_part(models.name, '/', -1))
WHERE
    models.n_layers = coalesce(published_models.n_layers, models.n_layers)
    AND models.n_heads = coalesce(published_models.n_heads, models.n_heads)
    AND models.checkpoint IS NULL
    AND coalesce(models.revision, 'main') = 'main'
    AND len(runs.given_heads) = 0
    AND coalesce(runs.logit_of, 'next_token') = 'next_token'
    AND runs.status <> 'failed'
