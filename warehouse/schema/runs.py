"""What was measured: models, datasets and runs."""

import sqlalchemy as sa
from duckdb_sqlalchemy.datatypes import Map

from selfrepair.warehouse.schema.base import (
    ablation_kind,
    bigint,
    boolean,
    column,
    double,
    integer,
    metadata,
    one_of,
    run_status,
    text,
    texts,
    utc,
)
from selfrepair.warehouse.schema.names import NORMS

models = sa.Table(
    "models",
    metadata,
    column("model_id", integer, "Number of the model in this file", key=True),
    column("name", text, "Name on the Hugging Face hub, or the name of the local folder"),
    column("revision", text, "Commit, branch or tag that was requested; NULL: the default one", null=True),
    column("checkpoint", integer, "Training step of the weights; NULL: the final weights [steps]", null=True),
    column("architecture", text, "Class of the model in transformers, such as GPT2LMHeadModel"),
    column("n_layers", integer, "Transformer blocks; layers are numbered from 0 [layers]"),
    column("n_heads", integer, "Query heads per layer; heads are numbered from 0 [heads]"),
    column("n_kv_heads", integer, "Key/value heads per layer; below n_heads: grouped-query attention [heads]"),
    column("d_model", integer, "Width of the residual stream [dimensions]"),
    column("d_head", integer, "Width of one head's output before W_O [dimensions]"),
    column("d_mlp", integer, "Neurons per MLP; 0: the model has no MLPs [neurons]"),
    column("d_vocab", integer, "Rows of the unembedding [tokens]"),
    column("norm", text, "Type of the final norm: layernorm (centers, then scales) or rmsnorm (only scales)"),
    column(
        "parallel_blocks", boolean, "True: attention and MLP of a layer read the same input, as in Pythia and GPT-J"
    ),
    column("n_parameters", bigint, "Size of the model [parameters]"),
    column("weights_sha256", text, "SHA-256 of the weights as loaded, in hexadecimal"),
    column(
        "config_sha256",
        text,
        "SHA-256 of what decides numbers beside the weights: configuration, buffers, code of its own, in hexadecimal; NULL: "
        "not recorded, as in files of version 0.1",
        null=True,
    ),
    column(
        "post_norms",
        boolean,
        "True: what attention or an MLP adds to the residual stream passes a norm of its own first, as in Gemma 2 and OLMo 2",
    ),
    one_of("norm", NORMS),
    sa.CheckConstraint("n_layers > 0"),
    sa.CheckConstraint("n_heads > 0"),
    comment="One row per measured model; unique by name, revision, checkpoint, weights_sha256 and config_sha256.",
)

datasets = sa.Table(
    "datasets",
    metadata,
    column("dataset_id", integer, "Number of the dataset in this file", key=True),
    column("name", text, "Name on the Hugging Face hub, or the name of the local file"),
    column("split", text, "Split that was read, such as train; NULL: the dataset has no splits", null=True),
    column("revision", text, "Commit, branch or tag that was requested; NULL: the default one", null=True),
    column("packing", text, "How documents became prompts: which tokens were prepended, joined, cut off or kept"),
    column("seq_len", integer, "Length of the longest prompt; packed prompts all have this length [tokens]"),
    column(
        "fingerprint",
        text,
        "SHA-256 of the prompts' token ids, documents and foils, in order, in hexadecimal; not of how they are paired",
    ),
    sa.CheckConstraint("seq_len > 1"),
    comment="One row per set of prompts; unique by all columns except dataset_id.",
)

runs = sa.Table(
    "runs",
    metadata,
    column("run_id", integer, "Number of the run in this file", key=True),
    column("run_key", text, "Hash of everything that determines the numbers, and of nothing else; unique"),
    column("model_id", integer, "The measured model: models.model_id"),
    column("dataset_id", integer, "The dataset its prompts come from: datasets.dataset_id"),
    column("n_prompts", integer, "Prompts of the whole run [prompts]"),
    column(
        "n_units", integer, "Units of the whole run: chunks of prompts, each loaded as a whole or not at all [units]"
    ),
    column("n_measurements", bigint, "Rows of measurements of the whole run [rows]"),
    column("n_crosschecks", bigint, "Rows of crosschecks that the whole run has at least [cells]"),
    column("ablations", sa.ARRAY(ablation_kind), "Ablation types measured"),
    column(
        "given_heads",
        texts,
        "Heads (as L9H6) ablated in both the clean and the ablated run, so that effects are measured given their "
        "ablation; empty: none",
    ),
    column("selected_heads", texts, "Heads (as L9H6) that were ablated, one at a time"),
    column("seed", bigint, "Seed of the resample pairing and all other randomness"),
    column("dtype", text, "Number format of weights and activations, such as float32"),
    column("device", text, "Where it was measured: cpu, or the GPU's name"),
    column("conventions", text, "Weight processing and definitions that the numbers follow"),
    column("software", Map(sa.String(), sa.String()), "Versions of the packages used to measure, by package"),
    column("status", run_status, "incomplete: units missing; complete: all loaded; failed: the cross-check disagrees"),
    column("started_at", utc, "When measuring began [UTC]"),
    column("finished_at", utc, "When the last unit was measured; NULL: not finished [UTC]", null=True),
    column(
        "identity_error_max",
        double,
        "Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp + repair_post_norm)| over the loaded "
        "units, before rounding; NULL: none loaded [logits]",
        null=True,
    ),
    column("crosscheck_tolerance", double, "Largest crosscheck_error_max with which the run does not fail [logits]"),
    column(
        "crosscheck_error_max",
        double,
        "Largest difference between an effect and the same effect recomputed from whole forwards with hooks; NULL: none "
        "loaded [logits]",
        null=True,
    ),
    column("crosscheck_rows", bigint, "Rows of measurements that the cross-check covers [rows]"),
    column(
        "mechanisms",
        texts,
        "Mechanisms measured in addition to the effects: edges, neurons_last or neurons_all, experts, logit_lens, "
        "logprobs, self_repression; NULL or empty: none",
        null=True,
    ),
    column(
        "logit_of",
        text,
        "Logit that effects are measured on: next_token at every position; answer or answer_minus_foil only at the last; "
        "NULL: next_token",
        null=True,
    ),
    column(
        "command",
        text,
        "Command that measures this run, or continues it; the warehouse is to be added. NULL: measured from Python, or by 0.1",
        null=True,
    ),
    column(
        "checks",
        text,
        "What the numbers of a complete run passed: the identity, the cross-check and its method, and TransformerBridge where "
        "it gives what that method gives on a small copy of the model; NULL: identity, cross-check (TransformerBridge), as in "
        "earlier versions",
        null=True,
    ),
    column(
        "rows_in_unit",
        integer,
        "Rows of measurements that a unit has at most, unless it is of one prompt; NULL: cut by an earlier version, across "
        "documents [rows]",
        null=True,
    ),
    column(
        "run_name",
        text,
        "What the run is called, beside its number: no other has the name; NULL: its number alone",
        null=True,
    ),
    column("note", text, "What somebody wrote about the run; NULL: nothing", null=True),
    column("tags", texts, "Words that runs are sorted by; NULL: none", null=True),
    sa.UniqueConstraint("run_key"),
    sa.CheckConstraint("n_prompts > 0"),
    sa.CheckConstraint("n_units > 0"),
    sa.CheckConstraint("n_measurements > 0"),
    comment="One row per run: one model, one set of prompts, one way of measuring.",
)
