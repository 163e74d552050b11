"""Check a request against the shape of its model, by the model's description: before torch is imported or weights fetched."""

from pathlib import Path

from selfrepair.ingest.models.demo import DEMO
from selfrepair.ingest.models.files import find_model
from selfrepair.ingest.models.hub.revisions import parse_checkpoints, revision_of
from selfrepair.ingest.models.shape import Shape, base_of, read_shape
from selfrepair.ingest.models.weight_files import is_adapter
from selfrepair.ingest.request.ingest_request import IngestRequest
from selfrepair.ingest.request.protocols import resolve_settings
from selfrepair.ingest.request.selection import parse_ablations, parse_given, parse_heads
from selfrepair.ingest.request.validation import open_dataset
from selfrepair.ingest.text.documents import Document
from selfrepair.ingest.text.refusals import check_length
from selfrepair.ingest.text.sources import RANDOM, STDLIB
from selfrepair.warehouse.errors import SelfRepairError


def check_fits_model(request: IngestRequest) -> None:
    """Raise SelfRepairError for layers, heads, lengths and neurons that the model does not have, and for no model at all.

    The hub is asked for a model's description only where the request names layers, heads or a length.
    """
    chosen = (request.layers, request.heads, request.given, request.seq_len)
    is_local = request.model == DEMO or Path(request.model).exists() or request.model.startswith((".", "/", "~"))
    if not is_local and not request.model.endswith(".gguf") and chosen == (None,) * len(chosen):
        return
    step = parse_checkpoints(request.checkpoint)[0]
    shape = _shape(request.model, request.revision if step is None else revision_of(step))
    settings = resolve_settings(request)
    if shape.n_layers is not None and shape.n_heads is not None:
        parse_heads(request.layers, request.heads, shape.n_layers, shape.n_heads)
        parse_given(request.given, parse_ablations(settings.ablation), shape.n_layers, shape.n_heads)
    if settings.seq_len > (shape.context or settings.seq_len) and _is_text(request, settings.dataset):
        check_length(settings.seq_len, shape.context, settings.packing)
    if request.neurons == "all" and (shape.n_experts or 0) > 1:
        raise SelfRepairError(
            f"--neurons all: the MLPs of model '{request.model}' are mixtures of {shape.n_experts} experts, which have no "
            "neurons of one projection to measure. Use --neurons none."
        )


def _is_text(request: IngestRequest, dataset: str) -> bool:
    """Whether prompts get the length of the request; rows of token ids, and prompts with answers, have their own."""
    return dataset in (STDLIB, RANDOM) or isinstance(next(open_dataset(request).documents, None), Document)


def _shape(name: str, revision: str | None) -> Shape:
    path = find_model(name, revision, weights=False)
    base = base_of(path) if path.is_dir() and is_adapter(path) and not (path / "config.json").is_file() else None
    return read_shape(path) if base is None or not Path(base).exists() else read_shape(Path(base))
