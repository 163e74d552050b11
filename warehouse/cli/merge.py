"""`selfrepair merge`: several warehouses into one. Imports happen when the command runs, so that help is quick."""

from pathlib import Path

import click


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="FILE FILE...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The new warehouse."
)
def merge(sources: tuple[Path, ...], output: Path) -> None:
    """Make one warehouse of several.

    A run that several files hold is there once, with the units of all of them. Runs of the first file keep their numbers.
    Summaries are copied, and every row that was copied is compared with the one it was copied from. Files that hold other
    rows of the same run are refused. The files themselves are only read.

    \b
    selfrepair merge mine.duckdb theirs.duckdb -o ours.duckdb
    """  # noqa: D301 - click knows the character
    from selfrepair.warehouse.cli.commands import holds
    from selfrepair.warehouse.cli.terminal import cell_text
    from selfrepair.warehouse.database.address import warehouse_path
    from selfrepair.warehouse.errors import files_given_by
    from selfrepair.warehouse.load import merge as merging

    with files_given_by(""):
        paths = [warehouse_path(source) for source in sources]
    with files_given_by("-o"):
        target = warehouse_path(output)
    for run in merging.merge(paths, target, on_wait=lambda text: click.echo(text, err=True)):
        click.echo(cell_text(str(run)))
    click.echo(f"{target} holds {holds(target)}")
