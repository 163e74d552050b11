-- The paper's own numbers, to compare with: filled from published/*.csv when the step is applied.

CREATE TABLE published_head_repair (
    published_model VARCHAR NOT NULL,
    hub_name VARCHAR NOT NULL,
    population VARCHAR NOT NULL,
    published_run VARCHAR NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    direct_effect DOUBLE PRECISION NOT NULL,
    ablated_direct_effect DOUBLE PRECISION NOT NULL,
    logit_change DOUBLE PRECISION NOT NULL,
    repair_layernorm DOUBLE PRECISION NOT NULL,
    repair_attention DOUBLE PRECISION NOT NULL,
    repair_mlp DOUBLE PRECISION NOT NULL,
    clipped_layernorm_fraction DOUBLE PRECISION,
    clipped_attention_fraction DOUBLE PRECISION,
    clipped_mlp_fraction DOUBLE PRECISION,
    PRIMARY KEY (published_model, population, published_run, layer, head),
    CHECK (population IN ('all', 'top2'))
);

CREATE TABLE published_feedback (
    published_model VARCHAR NOT NULL,
    hub_name VARCHAR NOT NULL,
    generation VARCHAR NOT NULL,
    receiver VARCHAR NOT NULL,
    layer SMALLINT,
    head SMALLINT,
    n_receivers INTEGER NOT NULL,
    feedback feedback_kind NOT NULL,
    strength SMALLINT NOT NULL,
    n_rows INTEGER NOT NULL,
    mean_direct_effect DOUBLE PRECISION NOT NULL,
    mean_fed_effect DOUBLE PRECISION NOT NULL,
    slope DOUBLE PRECISION NOT NULL,
    intercept DOUBLE PRECISION NOT NULL,
    correlation DOUBLE PRECISION NOT NULL,
    lowered_share DOUBLE PRECISION NOT NULL,
    top10_mean_direct_effect DOUBLE PRECISION NOT NULL,
    top10_mean_fed_effect DOUBLE PRECISION NOT NULL,
    top10_ratio DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (published_model, generation, receiver, feedback, strength),
    CHECK (strength >= 1)
);
