"""The single description of the warehouse's tables: names, types, keys, and what every column means.

A unit stands in square brackets at the end of a column's comment. Views, the README and the pages read these comments
instead of repeating them. The file itself is made by `migrations/*.sql`; a test holds the two equal.

There are no foreign keys: DuckDB then refuses to update a referenced row. `selfrepair verify` looks for orphans.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from duckdb_sqlalchemy.datatypes import Map

ABLATIONS = ("resample", "mean", "zero")
STATUSES = ("running", "complete", "failed")
NORMS = ("layernorm", "rmsnorm")
TARGET_KINDS = ("head", "mlp")
EDGE_POPULATIONS = ("all", "top2")
LOGITS_OF = ("next_token", "answer", "answer_minus_foil")
NEXT_TOKEN, ANSWER, ANSWER_MINUS_FOIL = LOGITS_OF
ADDED_VECTORS = ("own", "other", "random")
MECHANISMS = ("edges", "neurons_last", "neurons_all", "logit_lens", "logprobs", "self_repression")

EFFECTS = (
    "direct_effect",
    "ablated_direct_effect",
    "logit_change",
    "repair_layernorm",
    "repair_attention",
    "repair_mlp",
    "ln_scale_ratio",
)
"""The seven measured numbers of a row of `measurements`, stored rounded to `EFFECT_STEP`."""

ROUNDED = frozenset(
    (
        *(("measurements", name) for name in EFFECTS),
        *(("neuron_changes", name) for name in ("clean_effect", "ablated_effect")),
        *(("logit_lens", name) for name in ("logit", "logprob")),
        *(("logprob_changes", name) for name in ("logprob_change", "kl")),
        *(
            ("self_repression", name)
            for name in ("direct_effect", "direct_effect_after", "direct_effect_after_own_scale")
        ),
    )
)
"""Columns (table, name) that are stored rounded to `EFFECT_STEP`."""

EFFECT_STEP = 1e-4
"""Step to which the effect columns are rounded [logits]; the rounding noise of a float32 measurement."""

NEURONS_KEPT = 16
"""Neurons kept in `neuron_changes` for each row and MLP: those of the largest changes."""

NEURONS_RANKED = 50
"""Largest changes of a row that `neuron_curves` counts one by one."""

CHANGE_SHARES = {"exceed_50": 0.5, "exceed_10": 0.1, "exceed_5": 0.05, "exceed_2_5": 0.025, "exceed_1": 0.01}
"""Columns of `neuron_curves` by the share of the head's direct effect that they ask a change to reach."""

IDENTITY_ERROR_LIMIT = 1e-3
"""Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| a measured run may have [logits]."""

metadata = sa.MetaData()

_ablation_kind = sa.Enum(*ABLATIONS, name="ablation_kind", metadata=metadata)
_run_status = sa.Enum(*STATUSES, name="run_status", metadata=metadata)
_target_kind = sa.Enum(*TARGET_KINDS, name="target_kind", metadata=metadata)
_edge_population = sa.Enum(*EDGE_POPULATIONS, name="edge_population", metadata=metadata)
_added_vector_kind = sa.Enum(*ADDED_VECTORS, name="added_vector_kind", metadata=metadata)
_text = sa.String()
_texts = sa.ARRAY(sa.String())
_integer = sa.Integer()
_small = sa.SmallInteger()
_bigint = sa.BigInteger()
_effect: sa.REAL[float] = sa.REAL()
_double: sa.Double[float] = sa.Double()
_utc = sa.DateTime()


def _column(name: str, kind: Any, comment: str, *, key: bool = False, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, primary_key=key, nullable=null, autoincrement=False, comment=comment)


def _one_of(column: str, values: Sequence[str]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})")


models = sa.Table(
    "models",
    metadata,
    _column("model_id", _integer, "Number of the model in this file", key=True),
    _column("name", _text, "Name on the Hugging Face hub, or the local folder's name"),
    _column("revision", _text, "Commit, branch or tag that was asked for; NULL: the default one", null=True),
    _column("checkpoint", _integer, "Training step of the weights; NULL: the final ones [steps]", null=True),
    _column("architecture", _text, "Class of the model in transformers, such as GPT2LMHeadModel"),
    _column("n_layers", _integer, "Transformer blocks; they count from 0 [layers]"),
    _column("n_heads", _integer, "Query heads in each layer; they count from 0 [heads]"),
    _column("n_kv_heads", _integer, "Key/value heads in each layer; below n_heads: grouped-query attention [heads]"),
    _column("d_model", _integer, "Width of the residual stream [dimensions]"),
    _column("d_head", _integer, "Width of one head's output before W_O [dimensions]"),
    _column("d_mlp", _integer, "Neurons in each MLP; 0: the model has none [neurons]"),
    _column("d_vocab", _integer, "Rows of the unembedding [tokens]"),
    _column("norm", _text, "Kind of the final norm: layernorm (centres, then scales) or rmsnorm (only scales)"),
    _column("parallel_blocks", sa.Boolean(), "True: attention and MLP of a layer read the same input (Pythia, GPT-J)"),
    _column("n_parameters", _bigint, "Parameters of the model [parameters]"),
    _column("weights_sha256", _text, "SHA-256 of the weights as they were loaded, in hexadecimal"),
    _one_of("norm", NORMS),
    sa.CheckConstraint("n_layers > 0"),
    sa.CheckConstraint("n_heads > 0"),
    comment="One row per measured model: unique by name, revision, checkpoint and weights_sha256.",
)

datasets = sa.Table(
    "datasets",
    metadata,
    _column("dataset_id", _integer, "Number of the dataset in this file", key=True),
    _column("name", _text, "Name on the Hugging Face hub, or the local file's name"),
    _column("split", _text, "Split that was read, such as train; NULL: it has none", null=True),
    _column("revision", _text, "Commit, branch or tag that was asked for; NULL: the default one", null=True),
    _column("packing", _text, "How documents became prompts: which tokens were put in front, joined, cut or kept"),
    _column("seq_len", _integer, "Length of the longest prompt; packed prompts all have it [tokens]"),
    _column("fingerprint", _text, "SHA-256 of the prompts' token ids in order, in hexadecimal"),
    sa.CheckConstraint("seq_len > 1"),
    comment="One row per set of prompts: unique by all columns but dataset_id.",
)

runs = sa.Table(
    "runs",
    metadata,
    _column("run_id", _integer, "Number of the run in this file", key=True),
    _column("run_key", _text, "Hash of everything that decides the numbers, and of nothing else; unique"),
    _column("model_id", _integer, "The measured model: models.model_id"),
    _column("dataset_id", _integer, "The prompts' origin: datasets.dataset_id"),
    _column("n_prompts", _integer, "Prompts the whole run has [prompts]"),
    _column("n_units", _integer, "Units (chunks of prompts, loaded whole or not at all) the whole run has [units]"),
    _column("n_measurements", _bigint, "Rows of measurements the whole run has [rows]"),
    _column("n_crosschecks", _bigint, "Rows of crosschecks the whole run has [cells]"),
    _column("ablations", sa.ARRAY(_ablation_kind), "Kinds of ablation measured"),
    _column(
        "given_heads",
        _texts,
        "Heads (as L9H6) held ablated in the clean and the ablated forward alike, so that effects read 'given that "
        "these are gone already'; empty: none",
    ),
    _column("selected_heads", _texts, "Heads (as L9H6) that were ablated, one at a time"),
    _column("seed", _bigint, "Seed of the pairing of prompts and of every other random choice"),
    _column("dtype", _text, "Number format of weights and activations, such as float32"),
    _column("device", _text, "Where it was measured, such as cpu or the GPU's name"),
    _column("conventions", _text, "Weight processing and definitions the numbers follow"),
    _column("software", Map(sa.String(), sa.String()), "Versions of the packages that measured, by package"),
    _column("status", _run_status, "running: parts missing; complete: all loaded; failed: the cross-check disagrees"),
    _column("started_at", _utc, "When measuring began [UTC]"),
    _column("finished_at", _utc, "When the last unit was measured; NULL while running [UTC]", null=True),
    _column(
        "identity_error_max",
        _double,
        "Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the loaded units, before "
        "rounding; NULL: none loaded [logits]",
        null=True,
    ),
    _column("crosscheck_tolerance", _double, "Largest crosscheck_error_max at which the run is not failed [logits]"),
    _column(
        "crosscheck_error_max",
        _double,
        "Largest difference of the cells recomputed the slow way, two whole forwards through hooks; "
        "NULL: none loaded [logits]",
        null=True,
    ),
    _column("crosscheck_rows", _bigint, "Measured rows those cells cover [rows]"),
    _column(
        "mechanisms",
        _texts,
        "What was measured beside the effects: edges, neurons_last or neurons_all, logit_lens, logprobs, "
        "self_repression; NULL or empty: nothing",
        null=True,
    ),
    _column(
        "logit_of",
        _text,
        "Whose logit every effect is on: next_token at every position; answer or answer_minus_foil at the last one alone; "
        "NULL: next_token",
        null=True,
    ),
    sa.UniqueConstraint("run_key"),
    sa.CheckConstraint("n_prompts > 0"),
    sa.CheckConstraint("n_units > 0"),
    sa.CheckConstraint("n_measurements > 0"),
    comment="One row per run: one model, one set of prompts, one way of measuring.",
)

prompts = sa.Table(
    "prompts",
    metadata,
    _column("run_id", _integer, "The run: runs.run_id", key=True),
    _column("prompt_id", _integer, "Number of the prompt in its run, from 0", key=True),
    _column("document_id", _integer, "Number, in the dataset, of the document the prompt begins in, from 0"),
    _column(
        "partner_id",
        _integer,
        "Prompt (same run) whose activations replace this one's under resample; never itself; NULL: no resample",
        null=True,
    ),
    _column("token_ids", sa.ARRAY(sa.Integer()), "The prompt's tokens in order, positions 0..T-1 [vocabulary ids]"),
    _column("text", _text, "The prompt's tokens as text"),
    sa.CheckConstraint("partner_id <> prompt_id"),
    comment="One row per prompt of a run.",
)

tokens = sa.Table(
    "tokens",
    metadata,
    _column("run_id", _integer, "The run: runs.run_id", key=True),
    _column("prompt_id", _integer, "The prompt: prompts.prompt_id", key=True),
    _column("pos", _small, "Position in the prompt, 0..T-2; the last one predicts nothing known", key=True),
    _column("token_id", _integer, "Token at this position [vocabulary id]"),
    _column("token", _text, "Token at this position, as text"),
    _column("target_id", _integer, "Next token, the correct answer at this position [vocabulary id]"),
    _column("target", _text, "Next token, as text"),
    _column(
        "clean_logit",
        _effect,
        "Target's logit with nothing ablated, above the mean of all logits here, or above the foil's [logits]",
    ),
    _column("clean_logprob", _effect, "Target's log-probability with nothing ablated; 0 would be certainty [nats]"),
    _column("clean_rank", _integer, "Place of the target among all tokens by logit; 1: the most likely [rank]"),
    _column("clean_entropy", _effect, "Entropy of the clean prediction; 0: the model is certain [nats]"),
    _column("clean_ln_scale", _effect, "What the final norm divides by, nothing ablated: S [residual-stream units]"),
    _column(
        "foil_id",
        _integer,
        "Token whose logit is subtracted from the target's; NULL: none, the mean of all logits is [vocabulary id]",
        null=True,
    ),
    _column("foil", _text, "That token, as text; NULL: none", null=True),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("clean_rank >= 1"),
    sa.CheckConstraint("clean_ln_scale > 0"),
    comment="One row per measured position of a prompt: what is asked there and the model's clean answer.",
)

measurements = sa.Table(
    "measurements",
    metadata,
    _column("run_id", _integer, "The run: runs.run_id"),
    _column("ablation", _ablation_kind, "What the head's output was replaced by: another prompt's, its mean, or zero"),
    _column("prompt_id", _integer, "The prompt: prompts.prompt_id"),
    _column("pos", _small, "Position in the prompt whose next token is the target, from 0"),
    _column("layer", _small, "Layer of the ablated head, from 0"),
    _column("head", _small, "Number of the ablated query head in its layer, from 0"),
    _column(
        "direct_effect",
        _effect,
        "What the head writes towards the target's logit with nothing ablated; > 0: it pushes the correct token up, "
        "< 0: down [logits]",
    ),
    _column(
        "ablated_direct_effect",
        _effect,
        "The same of what the ablation puts in the head's place, at the clean scale; > 0: the replacement pushes the "
        "correct token up [logits]",
    ),
    _column(
        "logit_change",
        _effect,
        "Ablated minus clean logit of the target; < 0: the ablation hurts, > 0: it helps [logits]",
    ),
    _column(
        "repair_layernorm",
        _effect,
        "Part of the self-repair that comes from the final norm's changed scale; > 0: it compensates, < 0: it adds to "
        "the damage [logits]",
    ),
    _column(
        "repair_attention",
        _effect,
        "Part of the self-repair that later attention layers write; > 0: they compensate, < 0: they add to the damage; "
        "0 in the last layer [logits]",
    ),
    _column(
        "repair_mlp",
        _effect,
        "Part of the self-repair that later MLPs write; > 0: they compensate, < 0: they add to the damage [logits]",
    ),
    _column(
        "ln_scale_ratio",
        _effect,
        "Clean over ablated scale of the final norm, S/S'; > 1: the norm shrank and surviving logits grew [ratio]",
    ),
    sa.CheckConstraint("pos >= 0"),
    *(sa.CheckConstraint(f"isfinite({name})") for name in EFFECTS),
    comment=(
        "One row per run, ablation, prompt, position and ablated head. That is its key, held by selfrepair verify and "
        "not by an index, which over 10^8 rows would cost memory and loading speed. Effects are rounded to 1e-4."
    ),
)

crosschecks = sa.Table(
    "crosschecks",
    metadata,
    _column("run_id", _integer, "The run: runs.run_id", key=True),
    _column("prompt_id", _integer, "The prompt: prompts.prompt_id", key=True),
    _column("layer", _small, "Layer of the ablated head, from 0", key=True),
    _column("head", _small, "Number of the ablated query head in its layer, from 0", key=True),
    _column("ablation", _ablation_kind, "What the head's output was replaced by", key=True),
    _column("n_rows", _integer, "Positions compared [rows]"),
    _column("error_max", _double, "Largest difference of any effect to the fast way's [logits]"),
    comment="One row per cell that was measured a second time the slow way: two whole forwards through hooks.",
)

units = sa.Table(
    "units",
    metadata,
    _column("run_id", _integer, "The run: runs.run_id", key=True),
    _column("unit", _integer, "Number of the unit in its run, from 0", key=True),
    _column("first_prompt", _integer, "The unit's first prompt: prompts.prompt_id"),
    _column("n_prompts", _integer, "Prompts of the unit, in order from first_prompt [prompts]"),
    _column("n_measurements", _bigint, "Rows of measurements of the unit [rows]"),
    _column(
        "identity_error_max",
        _double,
        "Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp)| of the unit, before rounding "
        "[logits]",
    ),
    _column("manifest_sha256", _text, "SHA-256 of the manifest that came with the part files, in hexadecimal"),
    _column("measured_at", _utc, "When the unit's part files were finished [UTC]"),
    _column("loaded_at", _utc, "When the unit was loaded into this file [UTC]"),
    comment="Ledger of loaded units: a unit's rows and its row here arrive in one transaction.",
)

_RUN = ("run_id", _integer, "The run: runs.run_id")
_UNIT = ("unit", _integer, "The unit whose prompts were summed up: units.unit")
_ABLATION = ("ablation", _ablation_kind, "What the head's output was replaced by: another prompt's, its mean, or zero")
_PROMPT = ("prompt_id", _integer, "The prompt: prompts.prompt_id")
_POS = ("pos", _small, "Position in the prompt whose next token is the target, from 0")
_LAYER = ("layer", _small, "Layer of the ablated head, from 0")
_HEAD = ("head", _small, "Number of the ablated query head in its layer, from 0")
_MLP_LAYER = ("mlp_layer", _small, "Layer of the MLP, from 0")

neuron_changes = sa.Table(
    "neuron_changes",
    metadata,
    _column(*_RUN),
    _column(*_ABLATION),
    _column(*_PROMPT),
    _column(*_POS),
    _column(*_LAYER),
    _column(*_HEAD),
    _column(*_MLP_LAYER),
    _column("neuron", _integer, "Number of the neuron in its MLP, from 0"),
    _column(
        "clean_effect",
        _effect,
        "What the neuron writes towards the target's logit with nothing ablated, at the clean scale; < 0: it erases "
        "[logits]",
    ),
    _column(
        "ablated_effect",
        _effect,
        "The same with the head ablated, at the clean scale; above clean_effect where that is < 0: anti-erasure [logits]",
    ),
    _column("rank", _small, "Place of the neuron among its MLP's by |ablated_effect - clean_effect|; 1: the largest"),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("rank >= 1"),
    comment=(
        f"The {NEURONS_KEPT} neurons that change most, for each ablation, ablated head, row of the head's top 2 % and MLP. "
        "Effects are rounded to 1e-4."
    ),
)

neuron_curves = sa.Table(
    "neuron_curves",
    metadata,
    _column(*_RUN),
    _column(*_UNIT),
    _column(*_ABLATION),
    _column(*_LAYER),
    _column(*_HEAD),
    _column(*_MLP_LAYER),
    _column(
        "nth",
        _small,
        f"Place of the change among a row's in this MLP by its size; 1: the largest, up to {NEURONS_RANKED}",
    ),
    *(
        _column(
            name, _integer, f"Rows whose nth largest |change| is above {share * 100:g} % of the direct effect [rows]"
        )
        for name, share in CHANGE_SHARES.items()
    ),
    _column("largest_changes", _double, "Sum over rows of the nth largest |change| [logits]"),
    sa.CheckConstraint("nth >= 1"),
    comment="Over all neurons: how a head's top 2 % rows spread their changes, summed over a unit. Not rounded.",
)

neuron_sums = sa.Table(
    "neuron_sums",
    metadata,
    _column(*_RUN),
    _column(*_UNIT),
    _column(*_ABLATION),
    _column(*_LAYER),
    _column(*_HEAD),
    _column(*_MLP_LAYER),
    _column("n_rows", _integer, "Rows of the head's top 2 % in the unit [rows]"),
    _column("direct_effect", _double, "Sum over rows of the head's direct effect [logits]"),
    _column("change", _double, "Sum over rows and neurons of the change in direct effect [logits]"),
    _column("absolute_change", _double, "Sum over rows and neurons of |change| [logits]"),
    _column("positive_change", _double, "Sum over rows and neurons of the changes above 0 [logits]"),
    _column(
        "anti_erasure",
        _double,
        "Sum over rows and neurons of the changes above 0 of neurons that erase (clean effect < 0) [logits]",
    ),
    comment="Over all neurons: what a head's top 2 % rows change in an MLP, summed over a unit. Not rounded.",
)

edge_sums = sa.Table(
    "edge_sums",
    metadata,
    _column(*_RUN),
    _column(*_UNIT),
    _column(*_ABLATION),
    _column(*_LAYER),
    _column(*_HEAD),
    _column("population", _edge_population, "Rows summed up: all, or top2: the head's top 2 % by direct effect"),
    _column("target_kind", _target_kind, "What changed: a later head, or an MLP"),
    _column("target_layer", _small, "Layer of what changed, from 0"),
    _column("target_head", _small, "Number of the head that changed, from 0; NULL: an MLP", null=True),
    _column("n_rows", _integer, "Rows summed up [rows]"),
    _column(
        "change", _double, "Sum over rows of the change in the target's direct effect, at the clean scale [logits]"
    ),
    _column("squared_change", _double, "Sum over rows of its square [logits^2]"),
    comment="How the ablation of a head changes what each later head and MLP writes, summed over a unit. Not rounded.",
)

logit_lens = sa.Table(
    "logit_lens",
    metadata,
    _column(*_RUN),
    _column(*_PROMPT),
    _column(*_POS),
    _column("layer", _small, "Layer after which the residual stream is read, from 0"),
    _column("logit", _effect, "Target's logit read there, above the mean of all logits, or above the foil's [logits]"),
    _column("logprob", _effect, "Target's log-probability read there; 0 would be certainty [nats]"),
    _column("rank", _integer, "Place of the target among all tokens by that logit; 1: the most likely [rank]"),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("rank >= 1"),
    comment=(
        "One row per measured position and layer: the answer read from the residual stream after the layer through the "
        "final norm and the unembedding, nothing ablated. Rounded to 1e-4."
    ),
)

logprob_changes = sa.Table(
    "logprob_changes",
    metadata,
    _column(*_RUN),
    _column(*_ABLATION),
    _column(*_PROMPT),
    _column(*_POS),
    _column(*_LAYER),
    _column(*_HEAD),
    _column(
        "logprob_change", _effect, "Ablated minus clean log-probability of the target; < 0: the ablation hurts [nats]"
    ),
    _column(
        "kl", _effect, "Kullback-Leibler divergence of the ablated from the clean prediction, KL(clean||ablated) [nats]"
    ),
    sa.CheckConstraint("pos >= 0"),
    comment="One row for each row of measurements, where log-probabilities were asked for. Rounded to 1e-4.",
)

_MULTIPLE = ("multiple", _small, "How many times the output was added [times]")
_ADDED_VECTOR = (
    "added_vector",
    _added_vector_kind,
    "What was added to the input of the head's layer: its own clean output, another head's or a random direction of the "
    "same length",
)
_RECEIVING_HEAD = ("head", _small, "Number of the query head in its layer, from 0")
_RECEIVING_LAYER = ("layer", _small, "Layer of the head, from 0")

self_repression = sa.Table(
    "self_repression",
    metadata,
    _column(*_RUN),
    _column(*_PROMPT),
    _column(*_POS),
    _column(*_RECEIVING_LAYER),
    _column(*_RECEIVING_HEAD),
    _column(*_ADDED_VECTOR),
    _column(*_MULTIPLE),
    _column("other_head", _small, "Head of the same layer whose output was added; NULL: not another head's", null=True),
    _column("direct_effect", _effect, "Direct effect of the head with nothing added [logits]"),
    _column(
        "direct_effect_after",
        _effect,
        "Its direct effect with the output added at this position, at the clean scale [logits]",
    ),
    _column(
        "direct_effect_after_own_scale",
        _effect,
        "The same at the scale of the changed forward's own final norm; NULL: not measured [logits]",
        null=True,
    ),
    sa.CheckConstraint("pos >= 0"),
    sa.CheckConstraint("multiple >= 1"),
    comment="A seeded sample of rows of self-repression: a head's output added to its own layer's input. Rounded.",
)

self_repression_sums = sa.Table(
    "self_repression_sums",
    metadata,
    _column(*_RUN),
    _column(*_PROMPT),
    _column(*_RECEIVING_LAYER),
    _column(*_RECEIVING_HEAD),
    _column(*_ADDED_VECTOR),
    _column(*_MULTIPLE),
    _column("n_rows", _integer, "Positions summed up [rows]"),
    _column("sum_x", _double, "Sum of the clean direct effect x [logits]"),
    _column("sum_xx", _double, "Sum of x^2 [logits^2]"),
    _column("sum_y", _double, "Sum of the direct effect y with the output added, at the clean scale [logits]"),
    _column("sum_xy", _double, "Sum of x y [logits^2]"),
    _column("sum_yy", _double, "Sum of y^2 [logits^2]"),
    _column("sum_z", _double, "Sum of z, y at the changed forward's own scale; NULL: not measured [logits]", null=True),
    _column("sum_xz", _double, "Sum of x z; NULL: not measured [logits^2]", null=True),
    _column("sum_zz", _double, "Sum of z^2; NULL: not measured [logits^2]", null=True),
    comment="Sums over all positions of a prompt, from which a head's self-repression slope follows. Not rounded.",
)

_PUBLISHED_MODEL = ("published_model", _text, "Name that the paper's authors have for the model")
_HUB_NAME = (
    "hub_name",
    _text,
    "Last part of the model's name on the Hugging Face hub, in lower case: what a measured model is recognised by",
)

published_head_repair = sa.Table(
    "published_head_repair",
    metadata,
    _column(*_PUBLISHED_MODEL, key=True),
    _column(*_HUB_NAME),
    _column(
        "population",
        _text,
        "Rows that the means cover: all, or top2: the head's top 2 % by clean direct effect",
        key=True,
    ),
    _column(
        "published_run",
        _text,
        "Which of the authors' runs of the model: default, or what its file's name adds",
        key=True,
    ),
    _column(*_LAYER, key=True),
    _column(*_HEAD, key=True),
    _column(
        "direct_effect", _double, "Mean of the head's clean direct effect; > 0: it pushes the correct token up [logits]"
    ),
    _column(
        "ablated_direct_effect",
        _double,
        "Mean direct effect of what another prompt's output puts in the head's place; > 0: it pushes the correct token up "
        "[logits]",
    ),
    _column(
        "logit_change", _double, "Mean of ablated minus clean logit of the target; < 0: the ablation hurts [logits]"
    ),
    _column(
        "repair_layernorm", _double, "Mean self-repair by the final norm's changed scale; > 0: it compensates [logits]"
    ),
    _column("repair_attention", _double, "Mean self-repair by later attention layers; > 0: they compensate [logits]"),
    _column("repair_mlp", _double, "Mean self-repair by later MLPs; > 0: they compensate [logits]"),
    *(
        _column(
            f"clipped_{part}_fraction",
            _double,
            f"Mean over rows of repair_{part} / direct_effect, each held within 0..1; NULL: not published [ratio]",
            null=True,
        )
        for part in ("layernorm", "attention", "mlp")
    ),
    _one_of("population", EDGE_POPULATIONS),
    comment=(
        "The paper's own numbers, not measured here: means of every head under resample ablation, as its authors released "
        "them. 3000 prompts of 400 tokens, one document each; weights processed by TransformerLens; numbers to 1e-6."
    ),
)

published_self_repression = sa.Table(
    "published_self_repression",
    metadata,
    _column(*_PUBLISHED_MODEL, key=True),
    _column(*_HUB_NAME),
    _column("generation", _text, "Which of the authors' sets of files: old, history or new", key=True),
    _column(
        "receiver",
        _text,
        "Which head it is by mean direct effect: top_head to fourth_head of the model, or each_top_head: another one at "
        "each position, the highest there",
        key=True,
    ),
    _column("layer", _small, "Layer of the head, from 0; NULL: another head at each position", null=True),
    _column("head", _small, "Number of the head in its layer, from 0; NULL: another head at each position", null=True),
    _column("n_receivers", _integer, "Different heads among the positions; 1 unless receiver is each_top_head [heads]"),
    _column(
        "added_vector",
        _added_vector_kind,
        "What was added to the input of the head's layer: its own clean output, a random head's or a random direction",
        key=True,
    ),
    _column(*_MULTIPLE, key=True),
    _column("n_rows", _integer, "Positions that the fit covers [rows]"),
    _column("mean_direct_effect", _double, "Mean direct effect of the head with nothing added [logits]"),
    _column("mean_direct_effect_after", _double, "Its mean direct effect with the output added [logits]"),
    _column(
        "slope",
        _double,
        "Change of the direct effect with the output added per logit of the clean one; < 1: represses, > 1: reinforces "
        "[logits per logit]",
    ),
    _column("intercept", _double, "The fit's value at a direct effect of 0 [logits]"),
    _column("correlation", _double, "Pearson correlation of the two direct effects [-1..1]"),
    _column("lowered_share", _double, "Positions where the direct effect falls, as a share of n_rows [ratio]"),
    _column(
        "top10_mean_direct_effect",
        _double,
        "Mean of the direct effect with nothing added over the 10 % of positions where it is highest [logits]",
    ),
    _column(
        "top10_mean_direct_effect_after", _double, "Mean of it with the output added over the same positions [logits]"
    ),
    _column(
        "top10_ratio",
        _double,
        "The latter mean / the former, top10_mean_direct_effect_after / top10_mean_direct_effect [ratio]",
    ),
    sa.CheckConstraint("multiple >= 1"),
    comment=(
        "The paper's own numbers, not measured here: whether the strongest heads of 13 models repress or reinforce themselves, "
        "as its authors released them (self-repression); few positions, numbers to 1e-6."
    ),
)

schema_migration = sa.Table(
    "schema_migration",
    metadata,
    _column("version", _integer, "Number of the migration, from 1", key=True),
    _column("name", _text, "Name of the migration's file"),
    _column("sha256", _text, "SHA-256 of the migration's text and of the rows it brings, in hexadecimal"),
    _column("applied_at", _utc, "When it was applied to this file [UTC]"),
    comment="Ledger of the migrations this file has been through.",
)
