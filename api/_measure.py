"""`measure`: a model that is in memory, into frames or a warehouse, by the same code as `selfrepair ingest`."""

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

import torch

from selfrepair._measurements import Measurements, read_measurements
from selfrepair.ingest.cli.progress import TerminalProgress
from selfrepair.ingest.conventions import ABLATIONS, head_label
from selfrepair.ingest.engine.memory import free_memory
from selfrepair.ingest.engine.precision import full_precision
from selfrepair.ingest.models.in_memory import precision_of, share_model
from selfrepair.ingest.models.loading import LoadedModel
from selfrepair.ingest.request.mechanisms import Mechanisms
from selfrepair.ingest.request.run_settings import RunSettings
from selfrepair.ingest.request.selection import (
    check_heads,
    parse_ablations,
    parse_given,
    parse_heads,
    those_with_heads,
    without_given,
)
from selfrepair.ingest.runs.plan import RunPlan, plan_run
from selfrepair.ingest.runs.runner import Progress
from selfrepair.ingest.runs.stored_run import store_run
from selfrepair.ingest.text.documents import DocumentCounts
from selfrepair.ingest.text.given_prompts import given_prompts
from selfrepair.ingest.text.prompts import PromptOptions, build_prompts
from selfrepair.ingest.text.sources import Source
from selfrepair.queries.client.calls import SWITCH, TEXT, WHOLE, Takes, all_are, checked, is_path, is_text, is_whole
from selfrepair.queries.client.notices import SpecialTokensInText, warn
from selfrepair.warehouse.database.address import warehouse_path
from selfrepair.warehouse.database.lake.address import parts_beside
from selfrepair.warehouse.errors import ResumableError, SelfRepairError, errors_in
from selfrepair.warehouse.files import needing_temporary_files, temporary_affixes
from selfrepair.warehouse.load.names import check_name
from selfrepair.warehouse.schema import MECHANISM_TABLES, MECHANISMS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Heads = str | Sequence[str | tuple[int, int]]
"""Heads by label, in one string or several, or as (layer, head)."""


def _is_head(value: object) -> bool:
    return is_text(value) or (isinstance(value, Sequence) and len(value) == 2 and all_are(value, is_whole))


_TEXTS = Takes("text or a list of texts", lambda value: is_text(value) or all_are(value, is_text))
_HEADS = Takes(
    'heads such as "L9H6,L9H9" or [(9, 6), "L9H9"]', lambda value: is_text(value) or all_are(value, _is_head)
)
_TAKES = {
    "tokenizer": Takes("a tokenizer of transformers", callable),
    "ablations": _TEXTS,
    "layers": Takes(
        'layers such as 3, [3, 5] or "0,4-7"',
        lambda value: is_text(value) or is_whole(value) or all_are(value, is_whole),
    ),
    "heads": _HEADS,
    "given": _HEADS,
    "mechanisms": _TEXTS,
    "seed": WHOLE,
    "batch_size": WHOLE,
    "model_name": TEXT,
    "dataset_name": TEXT,
    "name": TEXT,
    "into": Takes("the path of a file", is_path),
    "progress": SWITCH,
}


class _Silent:
    """A `Progress` that shows nothing."""

    def stage(self, text: str, total: int | None = None, done: int = 0) -> None: ...

    def advance(self, amount: int) -> None: ...

    def note(self, text: str) -> None: ...


class _Options(TypedDict, total=False):
    """The options of `measure`, but for where the rows go."""

    tokenizer: "PreTrainedTokenizerBase | None"
    ablations: str | Sequence[str]
    layers: str | int | Sequence[int] | None
    heads: Heads | None
    given: Heads
    mechanisms: str | Sequence[str]
    seed: int
    batch_size: int | None
    model_name: str | None
    dataset_name: str
    name: str | None
    progress: bool


@overload
def measure(model: object, prompts: object, *, into: None = None, **options: Unpack[_Options]) -> Measurements: ...


@overload
def measure(model: object, prompts: object, *, into: str | Path, **options: Unpack[_Options]) -> int: ...


@checked(_TAKES)
def measure(
    model: object,
    prompts: object,
    *,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    ablations: str | Sequence[str] = ABLATIONS,
    layers: str | int | Sequence[int] | None = None,
    heads: Heads | None = None,
    given: Heads = (),
    mechanisms: str | Sequence[str] = (),
    seed: int = 0,
    batch_size: int | None = None,
    model_name: str | None = None,
    dataset_name: str = "prompts",
    name: str | None = None,
    into: str | Path | None = None,
    progress: bool = False,
) -> Measurements | int:
    """Ablate heads of a model that is in memory, and measure direct effects and self-repair at every token of the prompts.

    The same checks as in `selfrepair ingest`: preflight tests the decomposition on the weights, self-repair must be the sum
    of its parts in every row, no number may be infinite or NaN, and random cells, 64 at most, are measured again by
    plain forwards with hooks. The model itself is not changed. It is measured on its device, in its dtype, as in `model.eval()`
    and with PyTorch's fused attention kernel, whatever its settings; the cross-check of a model in half precision needs memory
    for a second copy of the weights, in float32.

    Args:
        model: A causal language model from transformers, with its current weights, or a TransformerBridge that is not in
            compatibility mode. Edits by hooks are refused: make them in the weights.
        prompts: Token ids [prompt, seq] as a tensor or an array, lists of ids of any lengths (nothing is prepended), texts
            (each becomes BOS and its tokens), or rows such as `{"text": ..., "answer": " Mary", "foil": " John"}`, of which
            only the answer is scored.
        tokenizer: Encodes texts and decodes tokens. Default: the bridge's; without one, tokens are shown as `<17>`.
        ablations: Any of resample (the output on another prompt of the same length), mean (over all prompts), zero.
        layers: Only heads of these layers, counted from 0: 3, [3, 5] or "0,4-7".
        heads: Only these heads: ["L9H6", (9, 9)] or "L9H6,L9H9". In addition to those of `layers`.
        given: Heads ablated in both the clean and the ablated run; needs a single ablation.
        mechanisms: Also measured: any of edges, neurons_last, neurons_all, experts, logit_lens, logprobs,
            self_repression.
        seed: Seed of the resample pairing and all randomness.
        batch_size: Sequences in one forward, halved when memory runs out; changes no number. Default: by the model's shape.
        model_name: The model's name. Default: its configuration's. Give an edited model a different name.
        dataset_name: The prompts' name in a warehouse.
        name: The run's own name in the warehouse `into`, beside its number.
        into: A DuckDB file to write the run into, created if missing. The same call again measures only what is missing.
        progress: Show progress on standard error.

    Returns:
        Measurements as polars DataFrames or, with `into`, the number of the run in that warehouse.

    Raises:
        SelfRepairError: For a model, prompts or settings that cannot be measured, or a failed check; says what to do.

    Warns:
        SpecialTokensInText: Where texts spell special tokens; says which, in how many, and in how many BOS is then twice.

    >>> from selfrepair import measure
    >>> run = measure(model, [[0, 5, 9, 7], [0, 8, 3, 4]], ablations="zero", model_name="tiny")
    >>> run.self_repair.select("label", "prompt_id", "pos").head(2).rows()
    [('L0H0', 0, 0), ('L0H0', 0, 1)]

    """
    with errors_in("python"):
        db = None if into is None else warehouse_path(into)
        if name is not None:
            check_name(name)
            if into is None:
                raise SelfRepairError(f"name={name!r} names a run in a warehouse: give its file, too, as into=FILE.")
        if tokenizer is None:
            tokenizer = getattr(model, "tokenizer", None)
        with _isolated_torch():
            shared = share_model(model, model_name, tokenizer)
            plan = _plan(shared, prompts, dataset_name, ablations, layers, heads, given, mechanisms, seed)
            plan = replace(plan, record=replace(plan.record, run_name=name))
            try:
                return _run(plan, db, batch_size, progress)
            finally:
                del plan, shared
                free_memory()  # modules of the copy may refer to each other


def _run(plan: RunPlan, db: Path | None, batch_size: int | None, progress: bool) -> Measurements | int:
    if batch_size is not None and batch_size < 1:
        raise SelfRepairError(f"batch_size={batch_size} measures nothing. Pass 1 or more, or None.")
    with contextlib.ExitStack() as stack:
        watcher: Progress = stack.enter_context(TerminalProgress()) if progress else _Silent()
        for note in (*plan.model.notes, *plan.prompts.notes):
            watcher.note(note)
        if db is not None:
            return store_run(plan, db, parts_beside(db), batch_size=batch_size, progress=watcher).run_id
        with needing_temporary_files():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(*temporary_affixes())))
        own = folder / "run.duckdb"
        try:
            store_run(plan, own, folder / "parts", batch_size=batch_size, progress=watcher, summaries=False)
        except ResumableError as error:  # what it says of rows that are kept is not true of a temporary folder
            raise SelfRepairError(
                f"{error.problem} Nothing was kept: with into=FILE, the same call goes on from what was measured."
            ) from error
        return read_measurements(own, MECHANISM_TABLES)


def _plan(
    model: LoadedModel,
    prompts: object,
    dataset_name: str,
    ablations: str | Sequence[str],
    layers: str | int | Sequence[int] | None,
    heads: Heads | None,
    given: Heads,
    mechanisms: str | Sequence[str],
    seed: int,
) -> RunPlan:
    n_layers, n_heads = model.adapter.n_layers, model.adapter.n_heads
    kinds = parse_ablations(ablations if isinstance(ablations, str) else ",".join(ablations))
    of_layers, of_heads, of_given = _layers(layers), _labels(heads), _labels(given or None)
    check_heads(of_layers, of_heads, of_given)
    co_ablated = parse_given(of_given, kinds, n_layers, n_heads)
    chosen = parse_heads(of_layers, of_heads, n_layers, n_heads)
    settings = RunSettings(
        ablations=kinds,
        heads=without_given(those_with_heads(chosen, of_heads, of_given, model.adapter.heads), co_ablated),
        given=co_ablated,
        mechanisms=_mechanisms(mechanisms),
        seed=seed,
        precision=precision_of(model),
    )
    counts = DocumentCounts()
    rows = given_prompts(prompts, model.tokenizer, counts)
    source = Source(dataset_name, None, None, iter(rows))
    options = PromptOptions(
        n_prompts=len(rows),
        seq_len=0,  # rows stay whole
        seed=seed,
        resample="resample" in kinds,
        distinct_partners=True,
    )
    found = build_prompts(source, model.vocabulary, options, counts)
    for sentence in counts.sentences():
        warn(sentence, SpecialTokensInText)
    return plan_run(model, source, found, settings)


def _layers(layers: str | int | Sequence[int] | None) -> str | None:
    if layers is None or isinstance(layers, str):
        return layers
    return ",".join(str(layer) for layer in (layers if isinstance(layers, Collection) else [layers]))


def _labels(heads: Heads | None) -> str | None:
    if heads is None or isinstance(heads, str):
        return heads
    return ",".join(head if isinstance(head, str) else head_label(*head) for head in heads)


def _mechanisms(names: str | Sequence[str]) -> Mechanisms:
    chosen = set(names.split(",") if isinstance(names, str) else names) - {""}
    unknown = sorted(chosen - set(MECHANISMS))
    if unknown:
        raise SelfRepairError(f"mechanisms: there is no '{unknown[0]}'. Choose from {', '.join(MECHANISMS)}.")
    return Mechanisms(
        edges="edges" in chosen,
        neurons="all" if "neurons_all" in chosen else "last" if "neurons_last" in chosen else "none",
        experts="experts" in chosen,
        logit_lens="logit_lens" in chosen,
        logprobs="logprobs" in chosen,
        self_repression="self_repression" in chosen,
    )


@contextlib.contextmanager
def _isolated_torch() -> Iterator[None]:
    """What the caller set for PyTorch neither changes a number nor is changed: autocast, TF32, random numbers, devices."""
    with contextlib.ExitStack() as stack:
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        for device in (name for name, found in here.items() if found):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(full_precision())
        yield
