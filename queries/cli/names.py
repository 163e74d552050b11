"""`selfrepair questions`, `views` and `describe`: what there is to query, and what it means."""

import click

from selfrepair.queries.cli.printing import screen_width


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
def questions(names: tuple[str, ...]) -> None:
    """List the built-in questions, or describe some of them.

    Run one with: selfrepair query NAME --param PARAMETER=VALUE
    """
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog.describe import question_listing

    if names:
        click.echo(_described([library.question(name).name for name in names]))
        return
    click.echo(question_listing(library.questions().values(), screen_width()))
    click.echo("\nWhat one takes: selfrepair describe NAME. Run it: selfrepair query NAME --param head=L4H2")


@click.command()
def views() -> None:
    """List the tables and views that can be queried."""
    from selfrepair.queries.catalog.describe import listing
    from selfrepair.queries.catalog.relations import relations

    click.echo(listing(relations().values(), screen_width()))
    click.echo("\nTheir columns: selfrepair describe NAME. Questions over them: selfrepair questions")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def describe(names: tuple[str, ...]) -> None:
    """Describe a table, view or question: its columns, its parameters.

    Prints type, unit and meaning of each. Several names are described one after the other.
    """
    click.echo(_described(names))


def _described(names: tuple[str, ...] | list[str]) -> str:
    from selfrepair.queries.catalog import questions as library
    from selfrepair.queries.catalog import relations as catalog
    from selfrepair.queries.catalog.describe import description, question_description
    from selfrepair.warehouse.errors import SelfRepairError

    texts = []
    for name in names:
        if name in library.questions():
            texts.append(question_description(library.question(name), library.answer(name), screen_width()))
        elif name in catalog.relations():
            texts.append(description(catalog.describe(name), screen_width()))
        else:
            raise SelfRepairError(catalog.unknown_name(name, catalog.relations(), library.questions()))
    return "\n\n".join(texts)
