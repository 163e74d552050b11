"""What the driver and a worker tell each other: JSON objects, one a line, over the worker's standard input and output; or
dicts, to and from an actor of Ray (`exchange` says what these carry besides).

The driver's first line is the `Order`. The worker then says `planned`, and from there on answers each command:

    lead        what is left? `left`; then, unless that is nothing: preflight, means and top rows of the whole run, `ready`
    join        means and top rows as the leading worker left them, `ready`
    measure     one unit, `measured`
    crosscheck  the whole run's cells, `checked`

In between it says `stage`, `advance` (rows, prompts or cells) and `note`; `refused`, with a message for the user, before it
ends. When its input ends, so does the worker, whatever it is at.
"""

import json
from dataclasses import dataclass
from typing import IO, Any

Message = dict[str, Any]
"""`kind` and what belongs to it."""


@dataclass(frozen=True)
class Order:
    """What a worker is to measure and where: fields of an `IngestRequest`, and paths as they were typed.

    `parts_to_record` is the folder of part files where the recorded command has to name it. Where `db` and `parts` are
    another machine's, `cuts` says how their runs are cut, as the fields of `registry.Cut`. `called` names the device in what
    is measured, where torch's name of it does not tell it from others of the machine.
    """

    request: dict[str, Any]
    device: str
    n_workers: int
    db: str
    parts: str
    parts_to_record: str | None
    cuts: dict[str, tuple[int, int | None]] | None = None
    called: str | None = None


def write_message(file: IO[str], kind: str, **values: Any) -> None:
    """Write a message and flush it."""
    file.write(json.dumps({"kind": kind, **values}) + "\n")
    file.flush()
