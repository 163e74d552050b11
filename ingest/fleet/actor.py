"""The worker in an actor of Ray: the same `Work` as in a process of `--devices`, on a node that sees neither the part files nor
the warehouse.

Imported on every node, by whatever version is there: `greet` answers the same in all of them.
"""

import importlib.metadata
import json
import os
import queue
import socket
import tempfile
import threading
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfrepair.ingest.fleet.exchange import ARRAYS
from selfrepair.ingest.fleet.mailbox import Mailbox, MailboxError
from selfrepair.ingest.fleet.messages import Message, Order
from selfrepair.ingest.terms import devices_are_named
from selfrepair.warehouse import files
from selfrepair.warehouse.errors import DeviceMemoryError, ResumableError, SelfRepairError
from selfrepair.warehouse.parts.folder import PartsFolder

_ADVANCE_EVERY_S = 1.0  # each message is a call of Ray's

_AT_ONCE = 100
"""Messages in an answer at most."""


class Actor:
    """What the driver calls, each from a thread of its own: commands go in, messages are asked for until the actor ends."""

    def __init__(self) -> None:
        self._commands: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def greet(self, address: str, sign: tuple[str, str]) -> dict[str, Any]:
        """Who this is, whether what the driver wrote into the mailbox is here (`sees`), and what was written for the driver
        to see (`sign`); `error` where the mailbox cannot be used.
        """
        found = {
            "selfrepair": importlib.metadata.version("selfrepair"),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        try:
            mailbox = Mailbox(address)
            mailbox.sweep_signs()
            return {**found, "sees": mailbox.sees(sign), "sign": mailbox.sign()}
        except SelfRepairError as error:
            return {**found, "error": str(error)}

    def start(self, order: dict[str, Any], address: str, folder: str, threads: int | None) -> None:
        """Plan the run and answer commands; in `folder`, where the node has it, since paths may be relative to it."""
        threading.Thread(target=self._work, args=(Order(**order), address, folder, threads), daemon=True).start()

    def send(self, command: Message) -> None:
        """A command."""
        self._commands.put(command)

    def receive(self) -> list[Message]:
        """The next messages; waits for one. After `ended` there are none."""
        found = [self._messages.get()]
        while len(found) < _AT_ONCE and not self._messages.empty():
            found.append(self._messages.get())
        return found

    def stop(self) -> None:
        """Leave nothing behind: the process is killed next."""
        if self._own is not None:
            self._own.cleanup()

    def _say(self, kind: str, **values: Any) -> None:
        self._messages.put({"kind": kind, **values})

    def _work(self, order: Order, address: str, folder: str, threads: int | None) -> None:
        try:
            if Path(folder).is_dir():
                os.chdir(folder)
            suffix, prefix = files.temporary_affixes()
            with files.needing_temporary_files():
                self._own = tempfile.TemporaryDirectory(suffix, prefix, ignore_cleanup_errors=True)
            with self._own as own:
                self._measure(replace(order, parts=own, db=f"{own}/none.duckdb"), address, threads)
        except (DeviceMemoryError, MailboxError) as error:  # those on other devices and nodes go on
            self._say("ended", text=str(error))
        except ResumableError as error:
            self._say("ended" if _is_full(error) else "refused", text=error.problem if _is_full(error) else str(error))
        except SelfRepairError as error:
            self._say("refused", text=str(error))
        except BaseException as error:
            traceback.print_exc()  # into the node's own logs
            self._say("ended", text="".join(traceback.format_exception_only(error)).strip().splitlines()[-1])

    def _measure(self, order: Order, address: str, threads: int | None) -> None:
        import torch

        from selfrepair.ingest.fleet.work import Work

        if threads is not None:
            torch.set_num_threads(threads)
        if order.device != "cpu":  # Ray shows the actor its own GPU alone, as the first
            order = replace(order, called=f"cuda:{os.environ.get('CUDA_VISIBLE_DEVICES', '0').partition(',')[0]}")
        devices_are_named("--device {} without --ray")
        carrier = _Carrier(Path(order.parts), Mailbox(address), self)
        work = Work(order, carrier.send, advance_every_s=_ADVANCE_EVERY_S)
        while True:
            work.do(carrier.received(self._commands.get()))


class _Carrier:
    """Carries files between the worker's own folder of part files and the driver, as `exchange` has it."""

    def __init__(self, root: Path, mailbox: Mailbox, actor: Actor) -> None:
        self._root, self._mailbox, self._say = root, mailbox, actor._say
        self._parts: PartsFolder | None = None
        self._command: Message = {}

    def received(self, command: Message) -> Message:
        """The command, whose files are in the folder now."""
        self._command = command
        for name, data in command.pop("files", {}).items():
            path = self._known.path / name
            with files.writing(name, self._root, len(data)):
                path.parent.mkdir(parents=True, exist_ok=True)
                files.replace_file(path, data)
        return command

    def send(self, kind: str, **values: Any) -> None:
        """Send the driver a message, with the files that belong to it."""
        match kind, self._command.get("kind"):
            case "planned", _:
                self._parts = PartsFolder(self._root, json.loads(values["record"])["run_key"])
            case "ready", "lead":
                values["record"] = self._known.run().to_json()
                values["files"] = self._files(f"*{ARRAYS}")
            case "measured", _:
                values["unit"] = unit = self._command["unit"]
                values["delivery"] = self._mailbox.deliver(self._known, unit)
                files.remove(self._known.unit_path(unit))
            case "checked", _:
                values["files"] = self._files("crosscheck-*.json")
        self._say(kind, **values)

    @property
    def _known(self) -> PartsFolder:
        assert self._parts is not None, "a run is planned first"
        return self._parts

    def _files(self, pattern: str) -> dict[str, bytes]:
        return {path.name: files.read_file(path) for path in self._known.path.glob(pattern)}


def _is_full(error: ResumableError) -> bool:
    """Whether the disk of this node is full."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in files.NO_ROOM
