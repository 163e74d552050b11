"""Options that several commands share."""

from pathlib import Path

import click


def _parameters(ctx: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"'{value}' is not NAME=VALUE, such as layer=9", ctx, option)
        if name in parameters:
            raise click.BadParameter(f"'{name}' is given twice; give it once", ctx, option)
        parameters[name] = text
    return parameters


param_option = click.option(
    "--param",
    "params",
    multiple=True,
    callback=_parameters,
    metavar="NAME=VALUE",
    help="A parameter of a question, or the value that a column of a table or view must have, such as head=L9H6; may be "
    "given several times. See: selfrepair describe NAME",
)

columns_option = click.option(
    "--columns",
    metavar="all|A,B,...",
    help="Columns of a question, table or view.  [default: a view's headline in a table, else all]",
)

limit_option = click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N rows.")

timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time limit of the query in seconds.  [default: 60 for what is printed, none for files]",
)

output_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write all columns and rows to a .parquet, .csv, .json or .jsonl file; an existing one is replaced.",
)
