"""`selfrepair questions`, `views` and `describe`: what there is to query, and what it means."""

from collections.abc import Iterable, Mapping, Sequence

import click

from selfrepair.queries.cli.printing import screen_width
from selfrepair.warehouse.cli.options import json_option


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@json_option
def questions(names: tuple[str, ...], as_json: bool) -> None:
    """List the built-in questions, or describe some of them.

    Run one with: selfrepair query NAME --param PARAMETER=VALUE
    """
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog.describe import question_listing

    if names:
        _print_described([library.question(name).name for name in names], as_json)
        return
    if as_json:
        from selfrepair.queries.client.frames import listed_questions

        _print_json(listed_questions().to_dicts())
        return
    click.echo(question_listing(library.questions().values(), screen_width()))
    click.echo("\nWhat one takes: selfrepair describe NAME. Run it: selfrepair query NAME --param head=L4H2")


@click.command()
@json_option
def views(as_json: bool) -> None:
    """List the tables and views that can be queried."""
    if as_json:
        from selfrepair.queries.client.frames import listed_views

        _print_json(listed_views().to_dicts())
        return
    from selfrepair.queries.catalog.describe import listing
    from selfrepair.queries.catalog.relations import relations

    click.echo(listing(relations().values(), screen_width()))
    click.echo("\nTheir columns: selfrepair describe NAME. Questions over them: selfrepair questions")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@json_option
def describe(names: tuple[str, ...], as_json: bool) -> None:
    """Describe a table, view or question: its columns, its parameters.

    Prints type, unit and meaning of each. Several names are described one after the other.
    """
    _print_described(names, as_json)


def _print_described(names: Sequence[str], as_json: bool) -> None:
    if as_json:
        from selfrepair.queries.client.records import record_of

        _print_json(map(record_of, names))
    else:
        click.echo(_described(names))


def _described(names: Sequence[str]) -> str:
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog import relations as catalog
    from selfrepair.queries.catalog.describe import description, question_description
    from selfrepair.warehouse.errors import UnknownNameError

    texts = []
    for name in names:
        if name in library.questions():
            texts.append(question_description(library.question(name), library.answer(name), screen_width()))
        elif name in catalog.relations():
            texts.append(description(catalog.describe(name), screen_width()))
        else:
            raise UnknownNameError(catalog.unknown_name(name, catalog.relations(), library.questions()))
    return "\n\n".join(texts)


def _print_json(rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows for programs."""
    from selfrepair.warehouse.cli import terminal

    terminal.print_json(rows)
