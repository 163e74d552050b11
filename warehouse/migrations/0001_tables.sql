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
COMMENT ON TABLE models IS 'One row per measured model: unique by name, revision, checkpoint and weights_sha256.';
COMMENT ON COLUMN models.model_id IS 'Number of the model in this file';
COMMENT ON COLUMN models.name IS 'Name on the Hugging Face hub, or the local folder''s name';
COMMENT ON COLUMN models.revision IS 'Commit, branch or tag that was asked for; NULL: the default one';
COMMENT ON COLUMN models.checkpoint IS 'Training step of the weights; NULL: the final ones [steps]';
COMMENT ON COLUMN models.architecture IS 'Class of the model in transformers, such as GPT2LMHeadModel';
COMMENT ON COLUMN models.n_layers IS 'Transformer blocks; they count from 0 [layers]';
COMMENT ON COLUMN models.n_heads IS 'Query heads in each layer; they count from 0 [heads]';
COMMENT ON COLUMN models.n_kv_heads IS 'Key/value heads in each layer; below n_heads: grouped-query attention [heads]';
COMMENT ON COLUMN models.d_model IS 'Width of the residual stream [dimensions]';
COMMENT ON COLUMN models.d_head IS 'Width of one head''s output before W_O [dimensions]';
COMMENT ON COLUMN models.d_mlp IS 'Neurons in each MLP; 0: the model has none [neurons]';
COMMENT ON COLUMN models.d_vocab IS 'Rows of the unembedding [tokens]';
COMMENT ON COLUMN models.norm IS 'Kind of the final norm: layernorm (centres, then scales) or rmsnorm (only scales)';
COMMENT ON COLUMN models.parallel_blocks IS 'True: attention and MLP of a layer read the same input (Pythia, GPT-J)';
COMMENT ON COLUMN models.n_parameters IS 'Parameters of the model [parameters]';
COMMENT ON COLUMN models.weights_sha256 IS 'SHA-256 of the weights as they were loaded, in hexadecimal';

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
COMMENT ON TABLE datasets IS 'One row per set of prompts: unique by all columns but dataset_id.';
COMMENT ON COLUMN datasets.dataset_id IS 'Number of the dataset in this file';
COMMENT ON COLUMN datasets.name IS 'Name on the Hugging Face hub, or the local file''s name';
COMMENT ON COLUMN datasets.split IS 'Split that was read, such as train; NULL: it has none';
COMMENT ON COLUMN datasets.revision IS 'Commit, branch or tag that was asked for; NULL: the default one';
COMMENT ON COLUMN datasets.packing IS 'How documents became prompts: which tokens were put in front, joined, cut or kept';
COMMENT ON COLUMN datasets.seq_len IS 'Length of the longest prompt; packed prompts all have it [tokens]';
COMMENT ON COLUMN datasets.fingerprint IS 'SHA-256 of the prompts'' token ids in order, in hexadecimal';

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
COMMENT ON TABLE runs IS 'One row per run: one model, one set of prompts, one way of measuring.';
COMMENT ON COLUMN runs.run_id IS 'Number of the run in this file';
COMMENT ON COLUMN runs.run_key IS 'Hash of everything that decides the numbers, and of nothing else; unique';
COMMENT ON COLUMN runs.model_id IS 'The measured model: models.model_id';
COMMENT ON COLUMN runs.dataset_id IS 'The prompts'' origin: datasets.dataset_id';
COMMENT ON COLUMN runs.n_prompts IS 'Prompts the whole run has [prompts]';
COMMENT ON COLUMN runs.n_units IS 'Units (chunks of prompts, loaded whole or not at all) the whole run has [units]';
COMMENT ON COLUMN runs.n_measurements IS 'Rows of measurements the whole run has [rows]';
COMMENT ON COLUMN runs.n_crosschecks IS 'Rows of crosschecks the whole run has [cells]';
COMMENT ON COLUMN runs.ablations IS 'Kinds of ablation measured';
COMMENT ON COLUMN runs.given_heads IS 'Heads (as L9H6) held ablated in the clean and the ablated forward alike, so that effects read ''given that these are gone already''; empty: none';
COMMENT ON COLUMN runs.selected_heads IS 'Heads (as L9H6) that were ablated, one at a time';
COMMENT ON COLUMN runs.seed IS 'Seed of the pairing of prompts and of every other random choice';
COMMENT ON COLUMN runs.dtype IS 'Number format of weights and activations, such as float32';
COMMENT ON COLUMN runs.device IS 'Where it was measured, such as cpu or the GPU''s name';
COMMENT ON COLUMN runs.conventions IS 'Weight processing and definitions the numbers follow';
COMMENT ON COLUMN runs.software IS 'Versions of the packages that measured, by package';
COMMENT ON COLUMN runs.status IS 'running: parts missing; complete: all loaded; failed: the cross-check disagrees';
COMMENT ON COLUMN runs.started_at IS 'When measuring began [UTC]';
COMMENT ON COLUMN runs.finished_at IS 'When the last unit was measured; NULL while running [UTC]';
COMMENT ON COLUMN runs.identity_error_max IS 'Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the loaded units, before rounding; NULL: none loaded [logits]';
COMMENT ON COLUMN runs.crosscheck_tolerance IS 'Largest crosscheck_error_max at which the run is not failed [logits]';
COMMENT ON COLUMN runs.crosscheck_error_max IS 'Largest difference of the cells recomputed the slow way, two whole forwards through hooks; NULL: none loaded [logits]';
COMMENT ON COLUMN runs.crosscheck_rows IS 'Measured rows those cells cover [rows]';

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
COMMENT ON TABLE prompts IS 'One row per prompt of a run.';
COMMENT ON COLUMN prompts.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN prompts.prompt_id IS 'Number of the prompt in its run, from 0';
COMMENT ON COLUMN prompts.document_id IS 'Number, in the dataset, of the document the prompt begins in, from 0';
COMMENT ON COLUMN prompts.partner_id IS 'Prompt (same run) whose activations replace this one''s under resample; never itself; NULL: no resample';
COMMENT ON COLUMN prompts.token_ids IS 'The prompt''s tokens in order, positions 0..T-1 [vocabulary ids]';
COMMENT ON COLUMN prompts.text IS 'The prompt''s tokens as text';

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
COMMENT ON TABLE tokens IS 'One row per measured position of a prompt: what is asked there and the model''s clean answer.';
COMMENT ON COLUMN tokens.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN tokens.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN tokens.pos IS 'Position in the prompt, 0..T-2; the last one predicts nothing known';
COMMENT ON COLUMN tokens.token_id IS 'Token at this position [vocabulary id]';
COMMENT ON COLUMN tokens.token IS 'Token at this position, as text';
COMMENT ON COLUMN tokens.target_id IS 'Next token, the correct answer at this position [vocabulary id]';
COMMENT ON COLUMN tokens.target IS 'Next token, as text';
COMMENT ON COLUMN tokens.clean_logit IS 'Target''s logit with nothing ablated, above the mean of all logits here [logits]';
COMMENT ON COLUMN tokens.clean_logprob IS 'Target''s log-probability with nothing ablated; 0 would be certainty [nats]';
COMMENT ON COLUMN tokens.clean_rank IS 'Place of the target among all tokens by logit; 1: the most likely [rank]';
COMMENT ON COLUMN tokens.clean_entropy IS 'Entropy of the clean prediction; 0: the model is certain [nats]';
COMMENT ON COLUMN tokens.clean_ln_scale IS 'What the final norm divides by, nothing ablated: S [residual-stream units]';

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
COMMENT ON TABLE measurements IS 'One row per run, ablation, prompt, position and ablated head. That is its key, held by selfrepair verify and not by an index, which over 10^8 rows would cost memory and loading speed. Effects are rounded to 1e-4.';
COMMENT ON COLUMN measurements.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN measurements.ablation IS 'What the head''s output was replaced by: another prompt''s, its mean, or zero';
COMMENT ON COLUMN measurements.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN measurements.pos IS 'Position in the prompt whose next token is the target, from 0';
COMMENT ON COLUMN measurements.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN measurements.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN measurements.direct_effect IS 'What the head writes towards the target''s logit with nothing ablated; > 0: it pushes the correct token up, < 0: down [logits]';
COMMENT ON COLUMN measurements.ablated_direct_effect IS 'The same of what the ablation puts in the head''s place, at the clean scale; > 0: the replacement pushes the correct token up [logits]';
COMMENT ON COLUMN measurements.logit_change IS 'Ablated minus clean logit of the target; < 0: the ablation hurts, > 0: it helps [logits]';
COMMENT ON COLUMN measurements.repair_layernorm IS 'Part of the self-repair that comes from the final norm''s changed scale; > 0: it compensates, < 0: it adds to the damage [logits]';
COMMENT ON COLUMN measurements.repair_attention IS 'Part of the self-repair that later attention layers write; > 0: they compensate, < 0: they add to the damage; 0 in the last layer [logits]';
COMMENT ON COLUMN measurements.repair_mlp IS 'Part of the self-repair that later MLPs write; > 0: they compensate, < 0: they add to the damage [logits]';
COMMENT ON COLUMN measurements.ln_scale_ratio IS 'Clean over ablated scale of the final norm, S/S''; > 1: the norm shrank and surviving logits grew [ratio]';

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
COMMENT ON TABLE crosschecks IS 'One row per cell that was measured a second time the slow way: two whole forwards through hooks.';
COMMENT ON COLUMN crosschecks.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN crosschecks.prompt_id IS 'The prompt: prompts.prompt_id';
COMMENT ON COLUMN crosschecks.layer IS 'Layer of the ablated head, from 0';
COMMENT ON COLUMN crosschecks.head IS 'Number of the ablated query head in its layer, from 0';
COMMENT ON COLUMN crosschecks.ablation IS 'What the head''s output was replaced by';
COMMENT ON COLUMN crosschecks.n_rows IS 'Positions compared [rows]';
COMMENT ON COLUMN crosschecks.error_max IS 'Largest difference of any effect to the fast way''s [logits]';

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
COMMENT ON TABLE units IS 'Ledger of loaded units: a unit''s rows and its row here arrive in one transaction.';
COMMENT ON COLUMN units.run_id IS 'The run: runs.run_id';
COMMENT ON COLUMN units.unit IS 'Number of the unit in its run, from 0';
COMMENT ON COLUMN units.first_prompt IS 'The unit''s first prompt: prompts.prompt_id';
COMMENT ON COLUMN units.n_prompts IS 'Prompts of the unit, in order from first_prompt [prompts]';
COMMENT ON COLUMN units.n_measurements IS 'Rows of measurements of the unit [rows]';
COMMENT ON COLUMN units.identity_error_max IS 'Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the unit, before rounding [logits]';
COMMENT ON COLUMN units.manifest_sha256 IS 'SHA-256 of the manifest that came with the part files, in hexadecimal';
COMMENT ON COLUMN units.measured_at IS 'When the unit''s part files were finished [UTC]';
COMMENT ON COLUMN units.loaded_at IS 'When the unit was loaded into this file [UTC]';

CREATE TABLE schema_migration (
    version INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    applied_at TIMESTAMP NOT NULL,
    PRIMARY KEY (version)
);
COMMENT ON TABLE schema_migration IS 'Ledger of the migrations this file has been through.';
COMMENT ON COLUMN schema_migration.version IS 'Number of the migration, from 1';
COMMENT ON COLUMN schema_migration.name IS 'Name of the migration''s file';
COMMENT ON COLUMN schema_migration.sha256 IS 'SHA-256 of the migration''s text, in hexadecimal';
COMMENT ON COLUMN schema_migration.applied_at IS 'When it was applied to this file [UTC]';
