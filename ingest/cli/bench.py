"""`selfrepair bench`. Its help works without torch: what needs it is imported when the command runs."""

import os
from pathlib import Path
from typing import Any

import click

from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.options import add_options


@click.command(short_help="Time the engine against matmul and against hooks.")
@add_options(BenchRequest)
def bench(**options: Any) -> None:
    """Time the engine on a model shape: token-heads per second, share of this machine's matmul rate measured in the
    same run, peak memory, and how many times faster it is than the per-head hook method and TransformerLens' patching in the
    same process.

    With --mechanisms: what edges, neurons, logit lens, self-repression and log-probabilities add to the time, the bytes and
    the memory of an ingest with one ablation type.
    """
    from selfrepair.ingest.request.devices import check_device

    request = BenchRequest(**options)
    check_device(request.device, request.dtype)
    if request.json_file is not None:
        _check_writable(request.json_file)
    if request.mechanisms:
        from selfrepair.ingest.bench.mechanisms import run
    else:
        from selfrepair.ingest.bench.engine import run

    run(request)


def _check_writable(path: Path) -> None:
    """Raise SelfRepairError where the figures could not be written once they are measured."""
    from selfrepair.warehouse.errors import SelfRepairError

    if not path.parent.is_dir():
        raise SelfRepairError(f"there is no folder {path.parent}. Make it, or change --json.")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SelfRepairError(f"{path} may not be written. Change the permissions, or name another file with --json.")
