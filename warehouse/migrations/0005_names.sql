-- The field's names for what is measured: logit lens and self-repression. Rows move as they are.

CREATE TYPE added_vector_kind AS ENUM ('own', 'other', 'random');

CREATE TABLE logit_lens (
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
INSERT INTO logit_lens (run_id, prompt_id, pos, layer, logit, logprob, rank)
SELECT run_id, prompt_id, pos, layer, logit, logprob, rank FROM layer_guess;
DROP TABLE layer_guess;

CREATE TABLE self_repression (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    pos SMALLINT NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    added_vector added_vector_kind NOT NULL,
    multiple SMALLINT NOT NULL,
    other_head SMALLINT,
    direct_effect REAL NOT NULL,
    direct_effect_after REAL NOT NULL,
    direct_effect_after_own_scale REAL,
    CHECK (pos >= 0),
    CHECK (multiple >= 1)
);
INSERT INTO self_repression (run_id, prompt_id, pos, layer, head, added_vector, multiple, other_head, direct_effect,
    direct_effect_after, direct_effect_after_own_scale)
SELECT run_id, prompt_id, pos, layer, head, feedback::VARCHAR::added_vector_kind, strength, other_head,
    direct_effect, fed_effect, fed_effect_own_scale FROM head_feedback;
DROP TABLE head_feedback;

CREATE TABLE self_repression_sums (
    run_id INTEGER NOT NULL,
    prompt_id INTEGER NOT NULL,
    layer SMALLINT NOT NULL,
    head SMALLINT NOT NULL,
    added_vector added_vector_kind NOT NULL,
    multiple SMALLINT NOT NULL,
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
INSERT INTO self_repression_sums (run_id, prompt_id, layer, head, added_vector, multiple, n_rows, sum_x, sum_xx,
    sum_y, sum_xy, sum_yy, sum_z, sum_xz, sum_zz)
SELECT run_id, prompt_id, layer, head, feedback::VARCHAR::added_vector_kind, strength, n_rows, sum_x, sum_xx, sum_y,
    sum_xy, sum_yy, sum_z, sum_xz, sum_zz FROM feedback_sums;
DROP TABLE feedback_sums;

CREATE TABLE published_self_repression (
    published_model VARCHAR NOT NULL,
    hub_name VARCHAR NOT NULL,
    generation VARCHAR NOT NULL,
    receiver VARCHAR NOT NULL,
    layer SMALLINT,
    head SMALLINT,
    n_receivers INTEGER NOT NULL,
    added_vector added_vector_kind NOT NULL,
    multiple SMALLINT NOT NULL,
    n_rows INTEGER NOT NULL,
    mean_direct_effect DOUBLE PRECISION NOT NULL,
    mean_direct_effect_after DOUBLE PRECISION NOT NULL,
    slope DOUBLE PRECISION NOT NULL,
    intercept DOUBLE PRECISION NOT NULL,
    correlation DOUBLE PRECISION NOT NULL,
    lowered_share DOUBLE PRECISION NOT NULL,
    top10_mean_direct_effect DOUBLE PRECISION NOT NULL,
    top10_mean_direct_effect_after DOUBLE PRECISION NOT NULL,
    top10_ratio DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (published_model, generation, receiver, added_vector, multiple),
    CHECK (multiple >= 1)
);
INSERT INTO published_self_repression (published_model, hub_name, generation, receiver, layer, head, n_receivers,
    added_vector, multiple, n_rows, mean_direct_effect, mean_direct_effect_after, slope, intercept, correlation,
    lowered_share, top10_mean_direct_effect, top10_mean_direct_effect_after, top10_ratio)
SELECT published_model, hub_name, generation, receiver, layer, head, n_receivers,
    feedback::VARCHAR::added_vector_kind, strength, n_rows, mean_direct_effect, mean_fed_effect, slope, intercept,
    correlation, lowered_share, top10_mean_direct_effect, top10_mean_fed_effect, top10_ratio FROM published_feedback;
DROP TABLE published_feedback;

DROP TYPE feedback_kind;

UPDATE runs SET mechanisms = list_transform(
    mechanisms,
    lambda name: CASE name WHEN 'guesses' THEN 'logit_lens' WHEN 'feedback' THEN 'self_repression' ELSE name END
)
WHERE list_has_any(mechanisms, ['guesses', 'feedback']);
