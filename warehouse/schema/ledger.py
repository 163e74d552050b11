"""What vouches for the rows: loaded units, cross-checked cells, numbers given, applied migrations."""

import sqlalchemy as sa

from selfrepair.warehouse.schema.base import (
    ABLATION,
    HEAD,
    LAYER,
    PROMPT,
    RUN,
    bigint,
    column,
    double,
    integer,
    metadata,
    text,
    utc,
)

_NOT_KEPT = "NULL: not kept by the version that measured it"

crosschecks = sa.Table(
    "crosschecks",
    metadata,
    column(*RUN, key=True),
    column(*PROMPT, key=True),
    column(*LAYER, key=True),
    column(*HEAD, key=True),
    column(*ABLATION, key=True),
    column("n_rows", integer, "Positions compared [rows]"),
    column("error_max", double, "Largest difference of any effect from the measured value [logits]"),
    comment="One row per cell (prompt, head, ablation) recomputed independently: whole forwards with hooks.",
)

units = sa.Table(
    "units",
    metadata,
    column(*RUN, key=True),
    column("unit", integer, "Number of the unit in its run, from 0", key=True),
    column("first_prompt", integer, "First prompt of the unit: prompts.prompt_id"),
    column("n_prompts", integer, "Prompts of the unit, consecutive from first_prompt [prompts]"),
    column("n_measurements", bigint, "Rows of measurements of the unit [rows]"),
    column(
        "identity_error_max",
        double,
        "Largest |self_repair - (repair_layernorm + repair_attention + repair_mlp + repair_post_norm)| of the unit, before "
        "rounding [logits]",
    ),
    column("manifest_sha256", text, "SHA-256 of the manifest of the unit's part files, in hexadecimal"),
    column("measured_at", utc, "When the unit's part files were finished [UTC]"),
    column("loaded_at", utc, "When the unit was loaded into this file [UTC]"),
    column("host", text, f"Name of the machine that measured the unit; {_NOT_KEPT}", null=True),
    column("device", text, f"Device that measured it, such as cuda:1; {_NOT_KEPT}", null=True),
    column("worker", text, f"Process that measured it, as host:pid; {_NOT_KEPT}", null=True),
    column("seconds", double, f"Time that it took, without writing its part files; {_NOT_KEPT} [s]", null=True),
    column(
        "document_id",
        integer,
        "Document of which it is a part: prompts.document_id; NULL: it holds several, or a whole one, or an earlier version "
        "cut it",
        null=True,
    ),
    comment="Ledger of loaded units: the rows of a unit and its row here are committed in one transaction.",
)

last_numbers = sa.Table(
    "last_numbers",
    metadata,
    column("table_name", text, "Table whose rows are numbered: models, datasets or runs", key=True),
    column("last_number", integer, "Largest number that a row ever had, removed ones too"),
    comment="What numbers were given: that of a removed run is never another's.",
)

schema_migration = sa.Table(
    "schema_migration",
    metadata,
    column("version", integer, "Number of the migration, from 1", key=True),
    column("name", text, "Name of the migration's file"),
    column("sha256", text, "SHA-256 of the migration's text and of the rows it brings, in hexadecimal"),
    column("applied_at", utc, "When it was applied to this file [UTC]"),
    comment="Ledger of the migrations applied to this file.",
)
