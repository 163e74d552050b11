-- Models, datasets, runs, prompts, tokens, measurements, cross-checks, and the ledger of loaded units.

CREATE TYPE ablation_kind AS ENUM ('resample', 'mean', 'zero');
CREATE TYPE run_status AS ENUM ('running', 'complete', 'failed');

CREATE TABLE models (
    model_id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    revision VARCHAR,
    checkpoint INTEGER,
    architecture VARCHAR NOT NULL,
    n_layers INTEGER NOT NULL,
    n_heads INTEGER NOT NULL,
    n_kv_heads INTEGER NOT NULL,
    d_model INTEGER NOT NULL,
    d_head INTEGER NOT NULL,
    d_mlp INTEGER NOT NULL,
    d_vocab INTEGER NOT NULL,
    norm VARCHAR NOT NULL,
    parallel_blocks BOOLEAN NOT NULL,
    n_parameters BIGINT NOT NULL,
    weights_sha256 VARCHAR NOT NULL,
    PRIMARY KEY (model_id),
    CHECK (norm IN ('layernorm', 'rmsnorm')),
    CHECK (n_layers > 0),
    CHECK (n_heads > 0)
);

CREATE TABLE datasets (
    dataset_id INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    split VARCHAR,
    revision VARCHAR,
    packing VARCHAR NOT NULL,
    seq_len INTEGER NOT NULL,
    fingerprint VARCHAR NOT NULL,
    PRIMARY KEY (dataset_id),
    CHECK (seq_len > 1)
);

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
    PRIMARY KEY (run_id),
    UNIQUE (run_key),
    CHECK (n_prompts > 0),
    CHECK (n_units > 0),
    CHECK (n_measurements > 0)
);

CREATE TABLE prompts (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    document_id INTEGER NOT NULL,
    partner_id INTEGER,
    token_ids INTEGER[] NOT NULL,
    text VARCHAR NOT NULL,
    PRIMARY KEY (run_id, prompt_id),
    CHECK (partner_id <> prompt_id)
);

CREATE TABLE tokens (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    token_id INTEGER NOT NULL,
    token VARCHAR NOT NULL,
    target_id INTEGER NOT NULL,
    target VARCHAR NOT NULL,
    clean_logit FLOAT NOT NULL,
    clean_logprob FLOAT NOT NULL,
    clean_rank INTEGER NOT NULL,
    clean_entropy FLOAT NOT NULL,
    clean_ln_scale FLOAT NOT NULL,
    PRIMARY KEY (run_id, prompt_id, pos),
    CHECK (pos >= 0),
    CHECK (clean_rank >= 1),
    CHECK (clean_ln_scale > 0)
);

CREATE TABLE measurements (
    run_id INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    direct_effect FLOAT NOT NULL,
    ablated_direct_effect FLOAT NOT NULL,
    logit_change FLOAT NOT NULL,
    repair_layernorm FLOAT NOT NULL,
    repair_attention FLOAT NOT NULL,
    repair_mlp FLOAT NOT NULL,
    ln_scale_ratio FLOAT NOT NULL,
    CHECK (pos >= 0),
    CHECK (isfinite(direct_effect)),
    CHECK (isfinite(ablated_direct_effect)),
    CHECK (isfinite(logit_change)),
    CHECK (isfinite(repair_layernorm)),
    CHECK (isfinite(repair_attention)),
    CHECK (isfinite(repair_mlp)),
    CHECK (isfinite(ln_scale_ratio))
);

CREATE TABLE crosschecks (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    ablation ablation_kind NOT NULL,
    n_rows INTEGER NOT NULL,
    error_max DOUBLE NOT NULL,
    PRIMARY KEY (run_id, prompt_id, layer, head, ablation)
);

CREATE TABLE units (
    run_id INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    first_prompt INTEGER NOT NULL,
    n_prompts INTEGER NOT NULL,
    n_measurements BIGINT NOT NULL,
    identity_error_max DOUBLE NOT NULL,
    manifest_sha256 VARCHAR NOT NULL,
    measured_at TIMESTAMP NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    PRIMARY KEY (run_id, unit)
);

CREATE TABLE schema_migration (
    version INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL,
    PRIMARY KEY (version)
);
