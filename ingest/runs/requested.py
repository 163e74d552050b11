"""From a request to a planned run: its model and prompts are loaded."""

from dataclasses import replace
from pathlib import Path

from selfrepair.ingest.models.hub.revisions import parse_checkpoints
from selfrepair.ingest.models.loading import load_model
from selfrepair.ingest.request.devices import choose_devices_of_one, choose_precision
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.protocols import resolve_settings
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.request.selection import (
    parse_ablations,
    parse_given,
    parse_heads,
    those_with_heads,
    without_given,
)
from selfrepair.ingest.request.validation import open_dataset
from selfrepair.ingest.runs.plan import RunPlan, plan_run
from selfrepair.ingest.text.prompts import PromptOptions, build_prompts
from selfrepair.ingest.text.sources import RANDOM, random_rows


def make_plan(
    request: IngestRequest,
    parts: Path | None = None,
    n_workers: int = 1,
    device_name: str | None = None,
    local_rank: int | None = None,
) -> RunPlan:
    """Load the model and the prompts of a request and plan the run for so many workers; `parts` where that is not the usual
    folder, `device_name` where the device is not the request's, `local_rank` the number of this process on this machine, where
    its launcher gave it one.
    """
    settings = resolve_settings(request)
    ablations = parse_ablations(settings.ablation)
    devices = choose_devices_of_one(device_name or request.device, local_rank)
    precision = choose_precision(request.dtype, devices[0])
    source = open_dataset(request).with_first_row_read()  # before the model, which may take long to download
    model = load_model(
        request.model,
        precision=precision,
        device=devices[0],
        spread_over=tuple(devices) if len(devices) > 1 else (),
        revision=request.revision,
        checkpoint=parse_checkpoints(request.checkpoint)[0],
        trust_remote_code=request.trust_remote_code,
        called=request.series,
    )
    n_layers, n_heads = model.adapter.n_layers, model.adapter.n_heads
    chosen = parse_heads(request.layers, request.heads, n_layers, n_heads)
    heads = those_with_heads(chosen, request.heads, request.given, model.adapter.heads)
    given = parse_given(request.given, ablations, n_layers, n_heads)
    mechanisms, notes = request.chosen_mechanisms().available(model.adapter)
    model = replace(model, notes=(*model.notes, *notes))
    if source.name == RANDOM:
        rows = random_rows(model.vocabulary, seq_len=settings.seq_len, seed=request.seed)
        source = replace(source, documents=rows)
    options = PromptOptions(
        n_prompts=request.n_prompts,
        seq_len=settings.seq_len,
        packing=settings.packing,
        seed=request.seed,
        resample="resample" in ablations,
    )
    run_settings = RunSettings(
        ablations=ablations,
        heads=without_given(heads, given),
        given=given,
        mechanisms=mechanisms,
        seed=request.seed,
        precision=precision,
    )
    prompts = build_prompts(source, model.vocabulary, options)
    plan = plan_run(
        model,
        source,
        prompts,
        run_settings,
        command=request.command(parts),
        n_crosschecks=request.crosscheck,
        n_workers=n_workers,
    )
    return replace(plan, record=replace(plan.record, run_name=request.name))
