-- Norms of what attention and MLPs add to the residual stream: whether a model has them, and the part of self-repair that is
-- due to them. A column that is never empty cannot be added to a table with rows, which is why the models move.

ALTER TABLE measurements ADD COLUMN repair_post_norm REAL;

CREATE TEMP TABLE models_before AS FROM models;
DROP TABLE models;
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
    config_sha256 VARCHAR,
    post_norms BOOLEAN NOT NULL,
    PRIMARY KEY (model_id),
    CHECK (norm IN ('layernorm', 'rmsnorm')),
    CHECK (n_layers > 0),
    CHECK (n_heads > 0)
);
INSERT INTO models SELECT *, false FROM models_before ORDER BY model_id;
DROP TABLE models_before;
