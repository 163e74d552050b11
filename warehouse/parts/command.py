"""The command that a run's record names: text of a file that anybody may have made, shown to be copied into a shell."""

import shlex
from pathlib import Path

_PROGRAM = ["selfrepair", "ingest"]
_RUNS_CODE = "--trust-remote-code"
_RENAMED = {"--name": "--series"}


def command_to_resume(recorded: object, db: Path) -> str | None:
    """The recorded `selfrepair ingest` with this warehouse, quoted anew, so that a shell takes it as this one command.

    None for whatever else is recorded, such as another program, or characters that act on a terminal when they are printed
    or pasted there. A local model's name, which earlier versions gave by --name, is given by --series.
    """
    if not isinstance(recorded, str) or not recorded.isprintable():
        return None
    try:
        words = shlex.split(recorded)
    except ValueError:  # a quote that does not end
        return None
    words = [_RENAMED.get(word, word) for word in words]
    return shlex.join([*words, "--db", str(db)]) if words[:2] == _PROGRAM else None


def warning_of_code(command: str) -> str:
    """A sentence where a `command_to_resume` runs code that comes with the model, else nothing."""
    if _RUNS_CODE not in shlex.split(command):
        return ""
    return f"It runs code that comes with the model ({_RUNS_CODE}): use it only if you trust whoever published that."
