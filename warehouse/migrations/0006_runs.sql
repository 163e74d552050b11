-- What a run is: its model's configuration, the command that measures it, prompts apart from how they are paired, a status
-- that stays true, and numbers that are never given to another run.

ALTER TABLE models ADD COLUMN config_sha256 VARCHAR;

-- The fingerprint contained the partners; they are of a run. Where a run has all its prompts, it is computed anew.
CREATE TEMP TABLE dataset_tokens AS
WITH lines AS (
    SELECT
        runs.dataset_id,
        run_id,
        prompts.prompt_id,
        concat_ws(
            ' ',
            prompts.token_ids::VARCHAR,
            prompts.document_id,
            nullif(runs.logit_of, 'next_token'),
            foils.foil_id
        ) AS line
    FROM prompts
    JOIN runs USING (run_id)
    LEFT JOIN (SELECT run_id, prompt_id, max(foil_id) AS foil_id FROM tokens WHERE foil_id IS NOT NULL GROUP BY ALL) AS foils
        USING (run_id, prompt_id)
)
SELECT dataset_id, any_value(fingerprint) AS fingerprint
FROM (
    SELECT dataset_id, run_id, count(*) AS n_prompts, sha256(string_agg(sha256(line), '' ORDER BY prompt_id)) AS fingerprint
    FROM lines
    GROUP BY ALL
)
JOIN runs USING (dataset_id, run_id, n_prompts)
GROUP BY dataset_id;

UPDATE datasets SET fingerprint = dataset_tokens.fingerprint
FROM dataset_tokens
WHERE datasets.dataset_id = dataset_tokens.dataset_id;

CREATE TEMP TABLE same_dataset AS
SELECT dataset_id, min(dataset_id) OVER (PARTITION BY name, split, revision, packing, seq_len, fingerprint) AS first_id
FROM datasets;

-- Nobody can know from the file whether a run is still being measured: units are missing, that is all.
CREATE TEMP TABLE runs_before AS
SELECT
    runs.* REPLACE (
        coalesce(same_dataset.first_id, dataset_id) AS dataset_id,
        CASE runs.status::VARCHAR WHEN 'running' THEN 'incomplete' ELSE runs.status::VARCHAR END AS status
    ),
    NULL AS command
FROM runs
LEFT JOIN same_dataset USING (dataset_id);

DROP TABLE runs;
DROP TYPE run_status;
CREATE TYPE run_status AS ENUM ('incomplete', 'complete', 'failed');
CREATE TABLE runs (
    run_id INTEGER NOT NULL,
    run_key VARCHAR NOT NULL,
    model_id INTEGER NOT NULL,
    dataset_id INTEGER NOT NULL,
    n_prompts INTEGER NOT NULL,
    n_units INTEGER NOT NULL,
    n_measurements BIGINT NOT NULL,
    n_crosschecks BIGINT NOT NULL,
    ablations ablation_kind[] NOT NULL,
    given_heads VARCHAR[] NOT NULL,
    selected_heads VARCHAR[] NOT NULL,
    seed BIGINT NOT NULL,
    dtype VARCHAR NOT NULL,
    device VARCHAR NOT NULL,
    conventions VARCHAR NOT NULL,
    software MAP(VARCHAR, VARCHAR) NOT NULL,
    status run_status NOT NULL,
    started_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP,
    identity_error_max DOUBLE,
    crosscheck_tolerance DOUBLE NOT NULL,
    crosscheck_error_max DOUBLE,
    crosscheck_rows BIGINT NOT NULL,
    mechanisms VARCHAR[],
    logit_of VARCHAR,
    command VARCHAR,
    PRIMARY KEY (run_id),
    UNIQUE (run_key),
    CHECK (n_prompts > 0),
    CHECK (n_units > 0),
    CHECK (n_measurements > 0)
);
INSERT INTO runs SELECT * FROM runs_before ORDER BY run_id;

DELETE FROM datasets WHERE dataset_id IN (SELECT dataset_id FROM same_dataset WHERE first_id <> dataset_id);

DROP TABLE runs_before;
DROP TABLE dataset_tokens;
DROP TABLE same_dataset;

CREATE TABLE last_numbers (
    table_name VARCHAR NOT NULL,
    last_number INTEGER NOT NULL,
    PRIMARY KEY (table_name)
);
INSERT INTO last_numbers (table_name, last_number)
SELECT 'models', coalesce(max(model_id), 0) FROM models
UNION ALL SELECT 'datasets', coalesce(max(dataset_id), 0) FROM datasets
UNION ALL SELECT 'runs', coalesce(max(run_id), 0) FROM runs;
