"""`selfrepair bench`. Its help works without torch: what needs it is imported when the command runs."""

from typing import Any

import click

from selfrepair.ingest.request.bench_request import BenchRequest
from selfrepair.ingest.request.options import add_options


@click.command(short_help="Time the engine against matmul and against hooks.")
@add_options(BenchRequest)
def bench(**options: Any) -> None:
    """Time the engine on a model shape: token-heads per second, share of this machine's matmul rate measured in the
    same run, peak memory, and the ratio to the per-head hook method timed in the same process.

    With --mechanisms: what edges, neurons, logit lens, self-repression and log-probabilities add to the time, the bytes and
    the memory of an ingest with one ablation type.
    """
    request = BenchRequest(**options)
    if request.json_file is not None and not request.json_file.parent.is_dir():
        from selfrepair.warehouse.errors import SelfRepairError

        raise SelfRepairError(f"there is no folder {request.json_file.parent}. Make it, or change --json.")
    if request.mechanisms:
        from selfrepair.ingest.bench.mechanisms import run
    else:
        from selfrepair.ingest.bench.engine import run

    run(request)
