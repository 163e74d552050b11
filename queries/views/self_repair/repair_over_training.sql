-- Self-repair over a model's training: the same numbers at every measured checkpoint, of runs that can be compared.
--
-- Grain: series_id, ablation, population, level, layer, head, checkpoint
-- Headline: checkpoint, mean_direct_effect, mean_self_repair, total_fraction_of_effect, level, layer, label, n_rows,
--   clipped_layernorm_fraction
-- Paper: none
--
-- A series is what was measured in the same way: runs of one model's name and shape on the same prompts, under the
-- same ablation and seed, of the same heads with the same heads given, in the same precision and conventions. Of
-- several runs of one checkpoint the preferred one counts (run_preference: a complete one, the newest). A series of a single checkpoint has no rows. The final
-- weights are those of no revision or of main; another revision that is not step<N> cannot be placed in training, and
-- its runs are left out, as are failed runs.
--
-- Columns:
--   series_id INTEGER: Number of the series: the lowest run_id among its runs
--   run_id INTEGER: The run of this checkpoint: runs.run_id
--   level VARCHAR: What a row describes: 'head', 'layer' (head is NULL) or 'model' (layer is NULL, too)
--   n_heads BIGINT: Measured heads whose rows are pooled [heads]
--   n_prompts BIGINT: Prompts measured, whether they have such rows or not [prompts]
--   checkpoint INTEGER: Training step of the weights, or that of a revision step<N>; NULL: the final ones [steps]
--   checkpoint_place BIGINT: Place of the checkpoint in its series, from 1; the final weights come last

WITH settings AS (
    SELECT
        runs.run_id,
        runs.status,
        run_preference.preference,
        models.name AS model,
        coalesce(
            models.checkpoint,
            CAST(nullif(regexp_extract(models.revision, '^step([0-9]+)$', 1), '') AS INTEGER)
        ) AS checkpoint,
        datasets.fingerprint,
        datasets.packing,
        runs.given_heads,
        unnest(runs.ablations) AS ablation,
        {
            'n_layers': models.n_layers,
            'n_heads': models.n_heads,
            'selected_heads': runs.selected_heads,
            'logit_of': coalesce(runs.logit_of, 'next_token'),
            'seed': runs.seed,
            'dtype': runs.dtype,
            'conventions': runs.conventions
        } AS others
    FROM runs
    INNER JOIN models USING (model_id)
    INNER JOIN datasets USING (dataset_id)
    INNER JOIN run_preference USING (run_id)
    WHERE
        runs.status <> 'failed'
        AND (
            models.checkpoint IS NOT NULL
            OR regexp_full_match(coalesce(models.revision, 'main'), 'main|step[0-9]+')
        )
),
series AS (
    SELECT
        * EXCLUDE (others),
        min(run_id) OVER (PARTITION BY model, fingerprint, packing, given_heads, ablation, others) AS series_id
    FROM settings
),
points AS (
    SELECT *
    FROM series
    QUALIFY row_number() OVER (PARTITION BY series_id, ablation, checkpoint ORDER BY preference) = 1
),
places AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY series_id, ablation ORDER BY checkpoint NULLS LAST) AS checkpoint_place
    FROM points
    QUALIFY count(*) OVER (PARTITION BY series_id, ablation) > 1
)
SELECT
    places.series_id,
    run_id,
    places.model,
    places.fingerprint,
    places.packing,
    places.given_heads,
    ablation,
    repair_means.population,
    repair_means.level,
    repair_means.layer,
    repair_means.head,
    head_label(repair_means.layer, repair_means.head) AS label,
    places.checkpoint,
    places.checkpoint_place,
    repair_means.* EXCLUDE (run_id, ablation, population, level, layer, head),
    places.status
FROM places
INNER JOIN repair_means USING (run_id, ablation)
ORDER BY
    places.series_id,
    ablation,
    repair_means.population = 'all',
    repair_means.population,
    repair_means.level,
    layer,
    head,
    places.checkpoint_place
