"""A command in this process, as it is typed."""

import re
from pathlib import Path

import click
from click.testing import CliRunner, Result


def run(command: click.Command, *args: str | Path, stdin: str | None = None) -> Result:
    """What came of it; it ended well."""
    result = CliRunner().invoke(command, [str(arg) for arg in args], input=stdin, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def listed(text: str) -> list[str]:
    """The names that a command lists, a line each."""
    return [line.split()[0] for line in text.splitlines() if re.match("  [^ ]", line)]
