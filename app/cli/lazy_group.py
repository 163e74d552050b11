"""A click group that knows its commands by name and one line of help, and imports one only when it is called."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from selfrepair.app.cli.failures import readable_failures


class Command(NamedTuple):
    """Where a command is, as `module:attribute`, and the line it has in the group's help."""

    target: str
    help: str


class LazyGroup(click.Group):
    """Commands under headings. `--help` of the group imports none of them."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Command]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands in the order of the help."""
        return [name for section in self.sections.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command called `cmd_name`; None when there is none."""
        for section in self.sections.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name].target.partition(":")
                command = getattr(import_module(module), attribute)
                assert isinstance(command, click.Command)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest names where there is no such command."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0].lower(), self.list_commands(ctx), n=2)
            if not near:
                raise
            raise click.UsageError(f"no such command '{args[0]}'; did you mean {' or '.join(near)}?", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' names and help under the sections' headings, in columns that line up."""
        width = max(map(len, self.list_commands(ctx)))
        for heading, section in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), command.help) for name, command in section.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the user can mend becomes one message and an exit code, without a traceback."""
        with readable_failures(ctx):
            return super().invoke(ctx)
