"""Check a request for what no model could make right, before torch is imported; and open its dataset."""

import os

from selfrepair.ingest.models.hub.revisions import check_has_checkpoints, parse_checkpoints
from selfrepair.ingest.request.cluster import check_ray
from selfrepair.ingest.request.devices import parse_devices
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.protocols import resolve_settings
from selfrepair.ingest.request.scheduler import placement
from selfrepair.ingest.request.selection import (
    check_crosscheck,
    check_heads,
    check_seed,
    parse_ablations,
    parse_batch_size,
    parse_given,
)
from selfrepair.ingest.text.packing import PACKED
from selfrepair.ingest.text.refusals import check_length
from selfrepair.ingest.text.sources import RANDOM, STDLIB, Source, open_source
from selfrepair.warehouse.errors import SelfRepairError
from selfrepair.warehouse.load.names import check_name


def check_request(request: IngestRequest) -> None:
    """Raise SelfRepairError for a request that is wrong whatever the model; the hub is not used."""
    placement(request.shard, os.environ)
    _check_devices(request)
    check_ray(request)
    parse_batch_size(request.batch_size)
    check_seed(request.seed)
    check_crosscheck(request.crosscheck)
    _check_name(request)
    check_has_checkpoints(request.model, parse_checkpoints(request.checkpoint))
    settings = resolve_settings(request)
    check_heads(request.layers, request.heads, request.given)
    parse_given(request.given, parse_ablations(settings.ablation), None, None)
    open_dataset(request)
    if settings.dataset in (STDLIB, RANDOM):  # rows of others may be tokens, of any length
        check_length(settings.seq_len, None, settings.packing)


def _check_devices(request: IngestRequest) -> None:
    if request.devices is None:
        return
    parse_devices(request.devices)
    for option, given in (("--device", request.device != "auto"), ("--shard", request.shard is not None)):
        if given:
            raise SelfRepairError(
                f"--devices shares the run among the devices of this machine, and {option} was given as well. "
                "Leave one of them out."
            )


def _check_name(request: IngestRequest) -> None:
    if request.name is None:
        return
    check_name(request.name)
    if len(parse_checkpoints(request.checkpoint)) > 1:
        raise SelfRepairError(
            "--name names one run, and every checkpoint is one. Leave it out, and name each afterwards: selfrepair name RUN "
            "NAME"
        )


def open_dataset(request: IngestRequest) -> Source:
    """The request's dataset, of which no row is read yet."""
    settings = resolve_settings(request)
    return open_source(
        settings.dataset,
        split=request.split,
        revision=request.dataset_revision,
        text_column=request.text_column,
        whole=settings.packing != PACKED,
        row_group_gb=request.row_group_gb,
    )
