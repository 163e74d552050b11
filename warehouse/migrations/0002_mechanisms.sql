-- What is measured beside the effects: who repairs whom, neurons, guesses by layer, other measures, feedback.

CREATE TYPE target_kind AS ENUM ('head', 'mlp');
CREATE TYPE edge_population AS ENUM ('all', 'top2');
CREATE TYPE feedback_kind AS ENUM ('own', 'other', 'random');

ALTER TABLE runs ADD COLUMN mechanisms VARCHAR[];
COMMENT ON COLUMN runs.mechanisms IS 'What was measured beside the effects: edges, neurons_last or neurons_all, guesses, logprobs, feedback; NULL or empty: nothing';

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
COMMENT ON TABLE neuron_changes IS 'The 16 neurons that change most, for each ablation, ablated head, row of the head''s top 2 % and MLP. Effects are rounded to 1e-4.';
COMMENT ON COLUMN neuron_changes.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN neuron_changes.ablation IS 'What the head''s output was replaced by: another prompt''s, its mean, or zero';
COMMENT ON COLUMN neuron_changes.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN neuron_changes.pos IS 'Position in the prompt whose next token is the target, from 0';
COMMENT ON COLUMN neuron_changes.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN neuron_changes.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN neuron_changes.mlp_layer IS 'Layer of the MLP, from 0';
COMMENT ON COLUMN neuron_changes.neuron IS 'Number of the neuron in its MLP, from 0';
COMMENT ON COLUMN neuron_changes.clean_effect IS 'What the neuron writes towards the target''s logit with nothing ablated, at the clean scale; < 0: it erases [logits]';
COMMENT ON COLUMN neuron_changes.ablated_effect IS 'The same with the head ablated, at the clean scale; above clean_effect where that is < 0: anti-erasure [logits]';
COMMENT ON COLUMN neuron_changes.rank IS 'Place of the neuron among its MLP''s by |ablated_effect - clean_effect|; 1: the largest';

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
COMMENT ON TABLE neuron_curves IS 'Over all neurons: how a head''s top 2 % rows spread their changes, summed over a unit. Not rounded.';
COMMENT ON COLUMN neuron_curves.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN neuron_curves.unit IS 'The unit whose prompts were summed up: units.unit';
COMMENT ON COLUMN neuron_curves.ablation IS 'What the head''s output was replaced by: another prompt''s, its mean, or zero';
COMMENT ON COLUMN neuron_curves.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN neuron_curves.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN neuron_curves.mlp_layer IS 'Layer of the MLP, from 0';
COMMENT ON COLUMN neuron_curves.nth IS 'Place of the change among a row''s in this MLP by its size; 1: the largest, up to 50';
COMMENT ON COLUMN neuron_curves.exceed_50 IS 'Rows whose nth largest |change| is above 50 % of the direct effect [rows]';
COMMENT ON COLUMN neuron_curves.exceed_10 IS 'Rows whose nth largest |change| is above 10 % of the direct effect [rows]';
COMMENT ON COLUMN neuron_curves.exceed_5 IS 'Rows whose nth largest |change| is above 5 % of the direct effect [rows]';
COMMENT ON COLUMN neuron_curves.exceed_2_5 IS 'Rows whose nth largest |change| is above 2.5 % of the direct effect [rows]';
COMMENT ON COLUMN neuron_curves.exceed_1 IS 'Rows whose nth largest |change| is above 1 % of the direct effect [rows]';
COMMENT ON COLUMN neuron_curves.largest_changes IS 'Sum over rows of the nth largest |change| [logits]';

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
COMMENT ON TABLE neuron_sums IS 'Over all neurons: what a head''s top 2 % rows change in an MLP, summed over a unit. Not rounded.';
COMMENT ON COLUMN neuron_sums.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN neuron_sums.unit IS 'The unit whose prompts were summed up: units.unit';
COMMENT ON COLUMN neuron_sums.ablation IS 'What the head''s output was replaced by: another prompt''s, its mean, or zero';
COMMENT ON COLUMN neuron_sums.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN neuron_sums.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN neuron_sums.mlp_layer IS 'Layer of the MLP, from 0';
COMMENT ON COLUMN neuron_sums.n_rows IS 'Rows of the head''s top 2 % in the unit [rows]';
COMMENT ON COLUMN neuron_sums.direct_effect IS 'Sum over rows of the head''s direct effect [logits]';
COMMENT ON COLUMN neuron_sums.change IS 'Sum over rows and neurons of the change in direct effect [logits]';
COMMENT ON COLUMN neuron_sums.absolute_change IS 'Sum over rows and neurons of |change| [logits]';
COMMENT ON COLUMN neuron_sums.positive_change IS 'Sum over rows and neurons of the changes above 0 [logits]';
COMMENT ON COLUMN neuron_sums.anti_erasure IS 'Sum over rows and neurons of the changes above 0 of neurons that erase (clean effect < 0) [logits]';

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
COMMENT ON TABLE edge_sums IS 'How the ablation of a head changes what each later head and MLP writes, summed over a unit. Not rounded.';
COMMENT ON COLUMN edge_sums.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN edge_sums.unit IS 'The unit whose prompts were summed up: units.unit';
COMMENT ON COLUMN edge_sums.ablation IS 'What the head''s output was replaced by: another prompt''s, its mean, or zero';
COMMENT ON COLUMN edge_sums.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN edge_sums.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN edge_sums.population IS 'Rows summed up: all, or top2: the head''s top 2 % by direct effect';
COMMENT ON COLUMN edge_sums.target_kind IS 'What changed: a later head, or an MLP';
COMMENT ON COLUMN edge_sums.target_layer IS 'Layer of what changed, from 0';
COMMENT ON COLUMN edge_sums.target_head IS 'Number of the head that changed, from 0; NULL: an MLP';
COMMENT ON COLUMN edge_sums.n_rows IS 'Rows summed up [rows]';
COMMENT ON COLUMN edge_sums.change IS 'Sum over rows of the change in the target''s direct effect, at the clean scale [logits]';
COMMENT ON COLUMN edge_sums.squared_change IS 'Sum over rows of its square [logits^2]';

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
COMMENT ON TABLE layer_guess IS 'One row per measured position and layer: the answer read from the residual stream after the layer through the final norm and the unembedding, nothing ablated. Rounded to 1e-4.';
COMMENT ON COLUMN layer_guess.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN layer_guess.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN layer_guess.pos IS 'Position in the prompt whose next token is the target, from 0';
COMMENT ON COLUMN layer_guess.layer IS 'Layer after which the residual stream is read, from 0';
COMMENT ON COLUMN layer_guess.logit IS 'Target''s logit read there, above the mean of all logits [logits]';
COMMENT ON COLUMN layer_guess.logprob IS 'Target''s log-probability read there; 0 would be certainty [nats]';
COMMENT ON COLUMN layer_guess.rank IS 'Place of the target among all tokens by that logit; 1: the most likely [rank]';

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
COMMENT ON TABLE logprob_changes IS 'One row for each row of measurements, where log-probabilities were asked for. Rounded to 1e-4.';
COMMENT ON COLUMN logprob_changes.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN logprob_changes.ablation IS 'What the head''s output was replaced by: another prompt''s, its mean, or zero';
COMMENT ON COLUMN logprob_changes.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN logprob_changes.pos IS 'Position in the prompt whose next token is the target, from 0';
COMMENT ON COLUMN logprob_changes.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN logprob_changes.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN logprob_changes.logprob_change IS 'Ablated minus clean log-probability of the target; < 0: the ablation hurts [nats]';
COMMENT ON COLUMN logprob_changes.kl IS 'Kullback-Leibler divergence of the ablated from the clean prediction, KL(clean||ablated) [nats]';

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
COMMENT ON TABLE head_feedback IS 'A seeded sample of rows of the feedback measurement: a head''s output added to its own layer''s input. Rounded.';
COMMENT ON COLUMN head_feedback.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN head_feedback.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN head_feedback.pos IS 'Position in the prompt whose next token is the target, from 0';
COMMENT ON COLUMN head_feedback.layer IS 'Layer of the head, from 0';
COMMENT ON COLUMN head_feedback.head IS 'Number of the query head in its layer, from 0';
COMMENT ON COLUMN head_feedback.feedback IS 'What was added to the input of the head''s layer: its own clean output, another head''s or a random direction of the same length';
COMMENT ON COLUMN head_feedback.strength IS 'How many times the output was added [times]';
COMMENT ON COLUMN head_feedback.other_head IS 'Head of the same layer whose output was added; NULL: not another head''s';
COMMENT ON COLUMN head_feedback.direct_effect IS 'Direct effect of the head with nothing added [logits]';
COMMENT ON COLUMN head_feedback.fed_effect IS 'Its direct effect with the output added at this position, at the clean scale [logits]';
COMMENT ON COLUMN head_feedback.fed_effect_own_scale IS 'The same at the scale of the changed forward''s own final norm; NULL: not measured [logits]';

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
COMMENT ON TABLE feedback_sums IS 'Sums over all positions of a prompt, from which a head''s feedback slope follows. Not rounded.';
COMMENT ON COLUMN feedback_sums.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN feedback_sums.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN feedback_sums.layer IS 'Layer of the head, from 0';
COMMENT ON COLUMN feedback_sums.head IS 'Number of the query head in its layer, from 0';
COMMENT ON COLUMN feedback_sums.feedback IS 'What was added to the input of the head''s layer: its own clean output, another head''s or a random direction of the same length';
COMMENT ON COLUMN feedback_sums.strength IS 'How many times the output was added [times]';
COMMENT ON COLUMN feedback_sums.n_rows IS 'Positions summed up [rows]';
COMMENT ON COLUMN feedback_sums.sum_x IS 'Sum of the clean direct effect x [logits]';
COMMENT ON COLUMN feedback_sums.sum_xx IS 'Sum of x^2 [logits^2]';
COMMENT ON COLUMN feedback_sums.sum_y IS 'Sum of the direct effect y with the output added, at the clean scale [logits]';
COMMENT ON COLUMN feedback_sums.sum_xy IS 'Sum of x y [logits^2]';
COMMENT ON COLUMN feedback_sums.sum_yy IS 'Sum of y^2 [logits^2]';
COMMENT ON COLUMN feedback_sums.sum_z IS 'Sum of z, y at the changed forward''s own scale; NULL: not measured [logits]';
COMMENT ON COLUMN feedback_sums.sum_xz IS 'Sum of x z; NULL: not measured [logits^2]';
COMMENT ON COLUMN feedback_sums.sum_zz IS 'Sum of z^2; NULL: not measured [logits^2]';
