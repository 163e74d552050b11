-- Neurons in the top 2 % of the rows after position 0, too. What there is was measured in the top 2 % of all rows alone. A column
-- that is never empty cannot be added to a table with rows, which is why they move.

CREATE TYPE neuron_population AS ENUM ('top2', 'top2_nobos');

ALTER TABLE neuron_changes RENAME TO earlier_neuron_changes;
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
    in_top2 BOOLEAN NOT NULL,
    in_top2_nobos BOOLEAN NOT NULL,
    CHECK (pos >= 0),
    CHECK (rank >= 1)
);
INSERT INTO neuron_changes SELECT *, true, false FROM earlier_neuron_changes;
DROP TABLE earlier_neuron_changes;

ALTER TABLE neuron_curves RENAME TO earlier_neuron_curves;
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
    signed_exceed_50 INTEGER,
    signed_exceed_10 INTEGER,
    signed_exceed_5 INTEGER,
    signed_exceed_2_5 INTEGER,
    signed_exceed_1 INTEGER,
    largest_repairs DOUBLE PRECISION,
    change_shares DOUBLE PRECISION,
    repair_shares DOUBLE PRECISION,
    population neuron_population NOT NULL,
    CHECK (nth >= 1)
);
INSERT INTO neuron_curves SELECT *, 'top2' FROM earlier_neuron_curves;
DROP TABLE earlier_neuron_curves;

ALTER TABLE neuron_sums RENAME TO earlier_neuron_sums;
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
    anti_erasure DOUBLE PRECISION NOT NULL,
    n_changed INTEGER,
    population neuron_population NOT NULL
);
INSERT INTO neuron_sums SELECT *, 'top2' FROM earlier_neuron_sums;
DROP TABLE earlier_neuron_sums;
