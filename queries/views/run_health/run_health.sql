-- Whether each run can be trusted and compared: what is loaded, its identity check and cross-check, and a verdict.
--
-- Grain: run_id
-- Headline: health, status, identity_error_max, crosscheck_error_max, rows_expected, rows_loaded
-- Paper: none
--
-- Runs of every status are here. Other runs count as of the same model when models.name is the same, so that another
-- revision, checkpoint or state of the weights shows as a difference; failed ones are left out.
--
-- Columns:
--   health VARCHAR: 'ok': every rule of selfrepair verify holds; else what is wrong, the worst first, with the next step.
--     'rows not verified': there are too many rows to read each time, and nothing else is wrong
--   rows_expected BIGINT: Rows of measurements the whole run has [rows]
--   rows_loaded BIGINT: Rows of measurements of the units that are loaded, by their ledger [rows]
--   rows_stored BIGINT: Rows of measurements that are in the file; assumed to be rows_loaded while the total over all
--     runs matches their ledgers, since counting each run takes long [rows]
--   rows_summarised BIGINT: Rows of measurements that the summaries were made of; NULL: no summaries [rows]
--   stored_identity_error DOUBLE: Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the stored
--     rows; up to 3e-4 above identity_error_max is rounding; NULL: no summaries [logits]
--   share_undefined_ratios DOUBLE: Rows with direct_effect = 0, which have no fraction, as a share of rows_summarised [ratio]
--   has_summaries BOOLEAN: True: the views that summarise rows have this run
--   n_other_runs BIGINT: Other runs of a model of this name in this file, failed ones not counted [runs]
--   settings_differ VARCHAR: Settings in which at least one of those differs, of: weights, configuration, dtype,
--     conventions, given_heads, logit_of, dataset, seq_len, software, device; compare such runs with care; NULL: none differs

WITH settings AS (
    SELECT
        runs.run_id,
        runs.status,
        models.name AS model,
        {'revision': models.revision, 'checkpoint': models.checkpoint, 'weights': models.weights_sha256} AS weights,
        models.config_sha256,
        runs.dtype,
        runs.conventions,
        runs.given_heads,
        coalesce(runs.logit_of, 'next_token') AS logit_of,
        {'name': datasets.name, 'split': datasets.split, 'revision': datasets.revision, 'packing': datasets.packing} AS dataset,
        datasets.seq_len,
        runs.software,
        runs.device
    FROM runs
    LEFT JOIN models USING (model_id)
    LEFT JOIN datasets USING (dataset_id)
),
differences AS (
    SELECT
        one.run_id,
        count(*) AS n_other_runs,
        nullif(
            concat_ws(
                ', ',
                CASE WHEN bool_or(one.weights IS DISTINCT FROM other.weights) THEN 'weights' END,
                CASE WHEN bool_or(one.config_sha256 <> other.config_sha256) THEN 'configuration' END,
                CASE WHEN bool_or(one.dtype <> other.dtype) THEN 'dtype' END,
                CASE WHEN bool_or(one.conventions <> other.conventions) THEN 'conventions' END,
                CASE WHEN bool_or(one.given_heads <> other.given_heads) THEN 'given_heads' END,
                CASE WHEN bool_or(one.logit_of <> other.logit_of) THEN 'logit_of' END,
                CASE WHEN bool_or(one.dataset IS DISTINCT FROM other.dataset) THEN 'dataset' END,
                CASE WHEN bool_or(one.seq_len IS DISTINCT FROM other.seq_len) THEN 'seq_len' END,
                CASE WHEN bool_or(one.software <> other.software) THEN 'software' END,
                CASE WHEN bool_or(one.device <> other.device) THEN 'device' END
            ),
            ''
        ) AS settings_differ
    FROM settings AS one
    INNER JOIN settings AS other ON other.model = one.model AND other.run_id <> one.run_id AND other.status <> 'failed'
    GROUP BY one.run_id
),
ledger AS (
    SELECT run_id, CAST(sum(n_measurements) AS BIGINT) AS rows_loaded
    FROM units
    GROUP BY run_id
),
totals AS (
    SELECT (SELECT count(*) FROM measurements) = (SELECT coalesce(sum(n_measurements), 0) FROM units) AS agree
),
stored AS (
    SELECT run_id, count(*) AS rows_stored
    FROM measurements
    SEMI JOIN (SELECT run_id FROM runs CROSS JOIN totals WHERE NOT agree) AS counted USING (run_id)
    GROUP BY run_id
),
summaries AS (
    SELECT
        run_id,
        CAST(sum(n_rows) AS BIGINT) AS rows_summarised,
        sum(undefined_ratios) / sum(n_rows) AS share_undefined_ratios,
        max(stored_identity_error) AS stored_identity_error,
        max(stored_identity_excess) AS stored_identity_excess
    FROM identity_errors
    GROUP BY run_id
),
broken AS (
    SELECT
        runs.run_id,
        count(*) AS n_rules,
        min_by({'rule': broken_rules.rule, 'example': broken_rules.example}, rule_number) AS first_broken
    FROM runs
    INNER JOIN broken_rules ON broken_rules.run_id = runs.run_id OR broken_rules.run_id IS NULL
    GROUP BY runs.run_id
),
facts AS (
    SELECT
        run_id,
        runs.run_name,
        settings.model,
        runs.status,
        runs.n_measurements AS rows_expected,
        coalesce(ledger.rows_loaded, 0) AS rows_loaded,
        coalesce(CASE WHEN totals.agree THEN ledger.rows_loaded ELSE stored.rows_stored END, 0) AS rows_stored,
        summaries.rows_summarised,
        runs.identity_error_max,
        summaries.stored_identity_error,
        summaries.stored_identity_excess,
        runs.crosscheck_error_max,
        runs.crosscheck_tolerance,
        runs.crosscheck_rows,
        summaries.share_undefined_ratios,
        summaries.run_id IS NOT NULL AS has_summaries,
        coalesce(differences.n_other_runs, 0) AS n_other_runs,
        differences.settings_differ,
        broken.n_rules AS n_broken_rules,
        broken.first_broken,
        {IS_READ_WHOLE} AS is_read_whole
    FROM runs
    INNER JOIN settings USING (run_id)
    CROSS JOIN totals
    LEFT JOIN ledger USING (run_id)
    LEFT JOIN stored USING (run_id)
    LEFT JOIN summaries USING (run_id)
    LEFT JOIN differences USING (run_id)
    LEFT JOIN broken USING (run_id)
)
SELECT
    run_id,
    run_name,
    model,
    status,
    CASE
        WHEN status = 'failed' THEN
            'failed: the cross-check disagrees'
            || coalesce(format(' by {:.2g} logits, {:.2g} are allowed', crosscheck_error_max, crosscheck_tolerance), '')
            || '; summaries leave this run out; see the table crosschecks'
        WHEN rows_stored <> rows_loaded THEN format(
            'damaged: {:,} rows are stored, {:,} were loaded, {:,} are expected; see selfrepair verify',
            rows_stored,
            rows_loaded,
            rows_expected
        )
        WHEN n_broken_rules > 0 THEN format(
            'damaged: not so: {} ({}){}; see selfrepair verify',
            first_broken.rule,
            first_broken.example,
            CASE n_broken_rules WHEN 1 THEN '' ELSE format(', and {} more', n_broken_rules - 1) END
        )
        WHEN rows_loaded = 0 THEN 'empty: nothing is loaded; selfrepair runs says why and how to continue'
        WHEN rows_loaded < rows_expected THEN format(
            'incomplete: {:,} of {:,} rows are loaded; selfrepair runs says why and how to continue',
            rows_loaded,
            rows_expected
        )
        WHEN crosscheck_error_max IS NULL OR status <> 'complete'
            THEN 'unchecked: the cross-check is not all loaded; selfrepair runs says why and how to continue'
        WHEN NOT has_summaries THEN 'not summarised: the views have no numbers of this run; run selfrepair refresh'
        WHEN rows_summarised <> rows_stored THEN format(
            'out of date: the summaries are of {:,} rows, {:,} are stored; run selfrepair refresh --run {}',
            rows_summarised,
            rows_stored,
            run_id
        )
        WHEN stored_identity_excess > 1 AND is_read_whole THEN format(
            'out of date: the summaries are of rows that were damaged and no longer are; run selfrepair refresh --run {}',
            run_id
        )
        WHEN stored_identity_excess > 1 THEN format(
            'damaged: the parts of a stored row miss its self-repair by {:.2g} times what rounding explains; '
            || 'see selfrepair verify',
            stored_identity_excess
        )
        WHEN NOT is_read_whole THEN 'rows not verified: nothing else is wrong; selfrepair verify reads every row'
        ELSE 'ok'
    END AS health,
    rows_expected,
    rows_loaded,
    rows_stored,
    rows_summarised,
    identity_error_max,
    stored_identity_error,
    crosscheck_error_max,
    crosscheck_tolerance,
    crosscheck_rows,
    share_undefined_ratios,
    has_summaries,
    n_other_runs,
    settings_differ
FROM facts
ORDER BY run_id
