"""A click group that knows its commands by name and one line of help, and imports one only when it is called."""

import copy
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from selfrepair.app.cli import streams
from selfrepair.app.cli.failures import readable_failures


class Command(NamedTuple):
    """Where a command is, as `module:attribute`, and its line in the group's help.

    `report`, if any, is a function, as `module:attribute`. It is called after the command with what the command returned and
    the command's options by name; not where another command calls this one.
    """

    target: str
    help: str
    report: str = ""


class LazyGroup(click.Group):
    """Commands under headings. `--help` of the group imports none of them."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Command]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections = sections
        self._listed = {name: command for section in sections.values() for name, command in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands in the order of the help."""
        return list(self._listed)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command called `cmd_name`; None when there is none."""
        if cmd_name not in self._listed:
            return None
        command = _imported(self._listed[cmd_name].target)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that was typed, with its report. Raises click's NoSuchCommand, which names similar ones."""
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=self._listed, ctx=ctx) from error
        if command is not None and name is not None and self._listed[name].report:
            command = _followed_by(command, self._listed[name].report)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' names and help under the sections' headings, in columns that line up."""
        width = max(map(len, self._listed))
        for heading, section in self._sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name.ljust(width), command.help) for name, command in section.items()])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; output that cannot be written is an error, too, of every command and its help."""
        streams.prepare()
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if (text := streams.write_failure(error)) is None:
                raise
            streams.discard()
            streams.say_error(text)
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an expected failure becomes one message and an exit code, without a traceback."""
        with readable_failures(ctx):
            return super().invoke(ctx)


def _imported(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def _followed_by(command: click.Command, report: str) -> click.Command:
    """The command, followed by its report."""
    run = command.callback
    assert run is not None, command.name

    def run_and_report(**options: Any) -> Any:
        result = run(**options)
        _imported(report)(result, **options)
        return result

    followed = copy.copy(command)
    followed.callback = run_and_report
    return followed
