"""`selfrepair name`, `note` and `tag`: what people call a run. Imports happen when a command runs, so that help is quick."""

from pathlib import Path

import click

from selfrepair.warehouse.cli.options import db_option

_RUN = click.argument("run", metavar="RUN")


@click.command()
@_RUN
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="Call the run by its number alone.")
@db_option
def name(run: str, name: str | None, remove: bool, db: Path) -> None:
    """Give a run a name.

    RUN is its number, or its name until now. From then on, the name can stand wherever a run is asked for: --param run=NAME,
    selfrepair remove NAME, run="NAME" in Python, ?run=NAME in a link to the app. Names decide nothing that is measured.

    \b
    selfrepair name 3 baseline
    selfrepair query head_repair --param run=baseline
    """  # noqa: D301 - click knows the character
    from selfrepair.warehouse.load.names import set_name

    _check_one(name, remove, "a name")
    named = set_name(_there(db), run, name, on_wait=_say)
    click.echo(f"run {named.run_id} is called {name}" if name else f"run {named.run_id} has its number alone")


@click.command()
@_RUN
@click.argument("text", required=False)
@click.option("--remove", is_flag=True, help="Remove the note.")
@db_option
def note(run: str, text: str | None, remove: bool, db: Path) -> None:
    """Keep a note with a run, in place of the one before.

    RUN is its number or name. selfrepair runs shows the note.

    \b
    selfrepair note baseline "before the weights were edited"
    """  # noqa: D301 - click knows the character
    from selfrepair.warehouse.load.names import set_note

    _check_one(text, remove, "a text")
    named = set_note(_there(db), run, text, on_wait=_say)
    _print(f"{named}: {named.note}" if named.note else f"{named} has no note")


@click.command()
@_RUN
@click.argument("tags", nargs=-1)
@click.option("--remove", multiple=True, metavar="TAG", help="Remove this tag; several: once for each.")
@db_option
def tag(run: str, tags: tuple[str, ...], remove: tuple[str, ...], db: Path) -> None:
    """Add tags to a run, or remove some.

    RUN is its number or name. SQL finds runs by their tags: FROM runs WHERE list_contains(tags, 'paper').

    \b
    selfrepair tag baseline paper figure-1
    selfrepair tag baseline --remove figure-1
    """  # noqa: D301 - click knows the character
    from selfrepair.warehouse.load.names import change_tags

    if not tags and not remove:
        raise click.UsageError("Give a tag, or one to --remove.")
    named = change_tags(_there(db), run, tags, remove, on_wait=_say)
    _print(f"{named} has {', '.join(named.tags) or 'no tags'}")


def _check_one(given: str | None, remove: bool, what: str) -> None:
    if (given is None) != remove:
        raise click.UsageError(f"Give either {what} or --remove.")


def _there(db: Path) -> Path:
    from selfrepair.warehouse.errors import check_there

    check_there(db)
    return db


def _print(text: str) -> None:
    """A line with what the file says, which may be anybody's."""
    from selfrepair.warehouse.cli.terminal import cell_text

    click.echo(cell_text(text))


def _say(text: str) -> None:
    click.echo(text, err=True)
