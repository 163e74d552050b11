"""`selfrepair models`: the models of a warehouse, or with --supported the supported families."""

from dataclasses import asdict
from pathlib import Path

import click

from selfrepair.warehouse.cli.commands import print_rows, print_rows_as_json
from selfrepair.warehouse.cli.options import db_option, json_option

_MODELS = """
SELECT
    models.model_id,
    models.name,
    models.revision,
    models.checkpoint,
    models.architecture,
    models.n_layers,
    models.n_heads,
    models.n_kv_heads,
    models.d_model,
    models.norm,
    models.n_parameters,
    count(runs.run_id) AS runs
FROM models
LEFT JOIN runs USING (model_id)
GROUP BY ALL
ORDER BY models.model_id
"""


@click.command()
@click.option(
    "--supported", is_flag=True, help="List the families that are measured, and those that are refused and why."
)
@db_option
@json_option
def models(db: Path, supported: bool, as_json: bool) -> None:
    """List the models of a warehouse."""
    if supported and as_json:
        from selfrepair.ingest.models.families import families
        from selfrepair.warehouse.cli.terminal import print_json

        print_json({**asdict(family), "examples": family.examples} for family in families())
    elif as_json:
        print_rows_as_json(db, _MODELS)
    elif supported:
        print_supported()
    else:
        print_rows(db, _MODELS)


def print_supported() -> None:
    """Print the families that are measured, then those that are refused with the reason."""
    from selfrepair.ingest.models.families import families
    from selfrepair.warehouse.cli.terminal import print_table

    print_table(
        ("family", "examples", "norm", "blocks", "heads", "experts"),
        [
            (family.name, family.examples[:2], family.norm, family.blocks, family.heads, family.experts)
            for family in families()
            if not family.reason
        ],
    )
    click.echo("\nRefused, with the reason:\n")
    print_table(
        ("family", "examples", "reason"),
        [(family.name, family.examples, family.reason) for family in families() if family.reason],
    )
    click.echo(
        "\nFamilies have the names that config.json gives as model_type. Any other decoder is measured if its parts add up:\n"
        "head outputs, layer outputs and logits. Try it: selfrepair ingest --model NAME --dry-run"
    )
