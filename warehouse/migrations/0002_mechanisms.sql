-- What is measured beside the effects: who repairs whom, neurons, guesses by layer, other measures, feedback.

CREATE TYPE target_kind AS ENUM ('head', 'mlp');
CREATE TYPE edge_population AS ENUM ('all', 'top2');
CREATE TYPE feedback_kind AS ENUM ('own', 'other', 'random');

ALTER TABLE runs ADD COLUMN mechanisms VARCHAR[];

CREATE TABLE neuron_changes (
    run_id INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    mlp_layer SMALLINT NOT NULL,
    neuron INTEGER NOT NULL,
    clean_effect REAL NOT NULL,
    ablated_effect REAL NOT NULL,
    rank SMALLINT NOT NULL,
    CHECK (pos >= 0),
    CHECK (rank >= 1)
);

CREATE TABLE neuron_curves (
    run_id INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    mlp_layer SMALLINT NOT NULL,
    nth SMALLINT NOT NULL,
    exceed_50 INTEGER NOT NULL,
    exceed_10 INTEGER NOT NULL,
    exceed_5 INTEGER NOT NULL,
    exceed_2_5 INTEGER NOT NULL,
    exceed_1 INTEGER NOT NULL,
    largest_changes DOUBLE PRECISION NOT NULL,
    CHECK (nth >= 1)
);

CREATE TABLE neuron_sums (
    run_id INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    mlp_layer SMALLINT NOT NULL,
    n_rows INTEGER NOT NULL,
    direct_effect DOUBLE PRECISION NOT NULL,
    change DOUBLE PRECISION NOT NULL,
    absolute_change DOUBLE PRECISION NOT NULL,
    positive_change DOUBLE PRECISION NOT NULL,
    anti_erasure DOUBLE PRECISION NOT NULL
);

CREATE TABLE edge_sums (
    run_id INTEGER NOT NULL,
    unit INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    population edge_population NOT NULL,
    target_kind target_kind NOT NULL,
    target_layer SMALLINT NOT NULL,
    target_head SMALLINT,
    n_rows INTEGER NOT NULL,
    change DOUBLE PRECISION NOT NULL,
    squared_change DOUBLE PRECISION NOT NULL
);

CREATE TABLE layer_guess (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    layer SMALLINT NOT NULL,
    logit REAL NOT NULL,
    logprob REAL NOT NULL,
    rank INTEGER NOT NULL,
    CHECK (pos >= 0),
    CHECK (rank >= 1)
);

CREATE TABLE logprob_changes (
    run_id INTEGER NOT NULL,
    ablation ablation_kind NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    logprob_change REAL NOT NULL,
    kl REAL NOT NULL,
    CHECK (pos >= 0)
);

CREATE TABLE head_feedback (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    feedback feedback_kind NOT NULL,
    strength SMALLINT NOT NULL,
    other_head SMALLINT,
    direct_effect REAL NOT NULL,
    fed_effect REAL NOT NULL,
    fed_effect_own_scale REAL,
    CHECK (pos >= 0),
    CHECK (strength >= 1)
);

CREATE TABLE feedback_sums (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    feedback feedback_kind NOT NULL,
    strength SMALLINT NOT NULL,
    n_rows INTEGER NOT NULL,
    sum_x DOUBLE PRECISION NOT NULL,
    sum_xx DOUBLE PRECISION NOT NULL,
    sum_y DOUBLE PRECISION NOT NULL,
    sum_xy DOUBLE PRECISION NOT NULL,
    sum_yy DOUBLE PRECISION NOT NULL,
    sum_z DOUBLE PRECISION,
    sum_xz DOUBLE PRECISION,
    sum_zz DOUBLE PRECISION
);
