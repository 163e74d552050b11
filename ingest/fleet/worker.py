"""A worker's process, `python -m selfrepair.ingest.fleet.worker`: what it is told and answers is in `messages`."""

import contextlib
import json
import os
import queue
import sys
import threading
import traceback
from typing import IO, Any

from selfrepair.ingest.fleet.messages import Message, Order, write_message
from selfrepair.ingest.terms import devices_are_named
from selfrepair.warehouse.errors import DeviceMemoryError, SelfRepairError


def main() -> None:
    """Answer commands until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed is no message
    commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
    source = os.fdopen(os.dup(0), encoding="utf-8")
    order = Order(**json.loads(source.readline()))
    threading.Thread(target=_receive, args=(source, commands), daemon=True).start()

    def send(kind: str, **values: Any) -> None:
        try:
            write_message(out, kind, **values)
        except OSError:  # the driver is gone
            os._exit(1)

    devices_are_named("--devices {}")
    try:
        from selfrepair.ingest.fleet.work import Work  # and torch, which takes seconds: the input may end meanwhile

        work = Work(order, send)
        while True:
            work.do(commands.get())
    except DeviceMemoryError as error:  # those on other devices go on
        print(error, file=sys.stderr)
    except SelfRepairError as error:
        send("refused", text=str(error))
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def _receive(source: IO[str], commands: "queue.SimpleQueue[Message]") -> None:
    """Queue the commands; where the input ends, end the process at once: a unit is written whole or not at all."""
    with contextlib.suppress(OSError, ValueError):
        for line in source:
            commands.put(json.loads(line))
    os._exit(1)


if __name__ == "__main__":
    main()
