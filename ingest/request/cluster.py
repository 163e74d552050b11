"""The options of `ingest --ray` and the place of its part files; without Ray, so that mistakes are told at once."""

import re

from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.warehouse.errors import SelfRepairError

LOCAL = "local"
"""What `--ray` alone stands for: the cluster that runs on this machine, or one for this command alone."""

_ADDRESS = re.compile(r"(ray://)?([^\s/:]+|\[[0-9a-fA-F:]+\]):\d{1,5}/?")


def check_ray(request: IngestRequest) -> None:
    """Raise SelfRepairError for an address that is none, and for options that do not go with it."""
    if request.ray is None:
        if request.ray_cpus is not None:
            raise SelfRepairError("--ray-cpus gives the cores of a worker of --ray, which was not given. Add --ray.")
        return
    if request.ray not in (LOCAL, "auto") and _ADDRESS.fullmatch(request.ray) is None:
        raise SelfRepairError(
            f"--ray {request.ray} is no address of a cluster. Write host:port, such as 10.0.0.1:6379, or ray://host:port, "
            "or auto for the one that runs on this machine."
        )
    for option, is_given in (
        ("--devices", request.devices is not None),
        ("--device", request.device != "auto"),
        ("--shard", request.shard is not None),
    ):
        if is_given:
            raise SelfRepairError(
                f"--ray shares the run among the nodes of a cluster, and {option} was given as well. Leave one of them out."
            )


def check_parts(address: str, request: IngestRequest) -> None:
    """Raise SelfRepairError for a bucket where no cluster is used, whose nodes alone write into one."""
    if "://" in address and request.ray is None:
        raise SelfRepairError(
            f"--parts {address} is the address of a bucket, which only --ray takes. Name a folder, or add --ray."
        )
