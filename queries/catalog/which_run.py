"""Which run is meant: by its number or name, or by its model's name where that is enough."""

import difflib
from collections.abc import Sequence
from typing import Any

from selfrepair.queries.catalog.next_step import argument, did_you_mean, see, shortened
from selfrepair.warehouse.errors import SelfRepairError, no_run
from selfrepair.warehouse.schema import NEXT_TOKEN

RUNS = """
SELECT
    runs.run_id,
    runs.run_name,
    models.name AS model,
    models.revision,
    models.checkpoint,
    datasets.name AS dataset,
    coalesce(runs.logit_of, 'next_token') AS logit_of,
    default_population(runs.run_id) AS default_population,
    runs.n_prompts,
    runs.ablations,
    runs.given_heads,
    runs.dtype,
    runs.status,
    runs.started_at,
    len(runs.selected_heads) AS n_selected_heads,
    models.n_layers,
    models.n_heads,
    models.post_norms,
    runs.tags,
    runs.note
FROM runs
INNER JOIN models USING (model_id)
INNER JOIN datasets USING (dataset_id)
ORDER BY runs.run_id
"""
"""Every run with the names of what it measured, the oldest number first."""

Run = dict[str, Any]
"""One row of `RUNS`."""


def which_run(runs: Sequence[Run], model: str | int | None, run_id: str | int | None) -> Run:
    """The one of `runs` with the number or name `run_id`, or else the only one of `model`, a name or a run's number.

    A run whose cross-check failed is only meant when its number is given. Raises SelfRepairError when there is no such
    run or model (with the nearest names), when the two contradict each other, and when the model has several runs: each
    is named then, and none is chosen.
    """
    if isinstance(model, int):
        if run_id is not None and run_id != model:
            raise SelfRepairError(f"run {model} and run {run_id} were both given; name one of them.")
        model, run_id = None, model
    if not runs:
        raise SelfRepairError(no_run())
    if run_id is not None:
        return _checked(runs, model, _by_name(runs, run_id) if isinstance(run_id, str) else _by_number(runs, run_id))
    if model is None:
        raise SelfRepairError(f"name a model or a run. There are:\n{_listed(runs)}")
    found = [run for run in runs if run["model"] == model]
    if not found:
        raise SelfRepairError(_unknown_model(runs, model))
    usable = [run for run in found if run["status"] != "failed"]
    if not usable:
        raise SelfRepairError(
            f"no run of {model} passed its cross-check, and views leave such runs out. To see the rows of one anyway, "
            f"give its number, {argument('run', found[0]['run_id'])}:\n{_listed(found)}"
        )
    if len(usable) > 1:
        raise SelfRepairError(
            f"{model} has {len(usable)} runs here, and rows of different runs are not mixed. "
            f"Choose one by its number, such as {argument('run', usable[-1]['run_id'])}:\n{_listed(usable)}"
        )
    return usable[0]


FEW_ROWS = 30
"""Rows below which a mean says little."""


FEW_CLUSTERS = 12
"""Documents below which an interval is a rough guide, and no verdict is given."""


def few_rows(n_rows: object) -> str:
    """A sentence on numbers of `n_rows` rows where these are few, else empty."""
    if not isinstance(n_rows, int) or n_rows >= FEW_ROWS:
        return ""
    rows = "a single row" if n_rows == 1 else f"only {n_rows} rows"
    return f"There are numbers here of {rows}: fewer than {FEW_ROWS} say little. Use all rows, or measure more prompts."


def few_clusters(n_clusters: object) -> str:
    """A sentence on errors and intervals clustered by `n_clusters` documents where these are few, else empty."""
    if not isinstance(n_clusters, int) or n_clusters >= FEW_CLUSTERS:
        return ""
    more = "Measure prompts of more documents."
    if n_clusters == 1:
        return f"Rows here are of a single document, which gives no errors and no intervals. {more}"
    return (
        f"Errors and intervals here are of only {n_clusters} documents: with fewer than {FEW_CLUSTERS} they are a rough guide. "
        f"{more}"
    )


def dataset_of(run: Run) -> str:
    """The dataset's name, with whose logit every effect is on where that is not the next token's: 'ioi.jsonl (answer)'."""
    return run["dataset"] if run["logit_of"] == NEXT_TOKEN else f"{run['dataset']} ({run['logit_of']})"


def label_of(run: Run) -> str:
    """What a run is called: `3`, or `3 (baseline)` where it has a name."""
    return f"{run['run_id']}" if run["run_name"] is None else f"{run['run_id']} ({run['run_name']})"


def title_of(run: Run) -> str:
    """A run beside those of other models: 'gpt2 (run 3)', or 'gpt2 (run 3, baseline)' where it has a name."""
    return f"{run['model']} (run {run['run_id']}{'' if run['run_name'] is None else ', ' + run['run_name']})"


def newest_last(runs: Sequence[Run]) -> list[Run]:
    """Runs by when they were started: numbers do not tell, where files were merged."""
    return sorted(runs, key=lambda run: (run["started_at"], run["run_id"]))


def _by_number(runs: Sequence[Run], run_id: int) -> Run:
    for run in runs:
        if run["run_id"] == run_id:
            return run
    raise SelfRepairError(f"there is no run {run_id} in this warehouse. There are:\n{_listed(runs)}")


def _by_name(runs: Sequence[Run], name: str) -> Run:
    if name.isdecimal():
        return _by_number(runs, int(name))
    for run in runs:
        if run["run_name"] == name:
            return run
    names = [run["run_name"] for run in runs if run["run_name"] is not None]
    raise SelfRepairError(
        f"no run of this warehouse is called '{shortened(name)}'{did_you_mean(name, names)} There are:\n{_listed(runs)}"
    )


def _checked(runs: Sequence[Run], model: str | None, run: Run) -> Run:
    if model not in (None, run["model"]):
        raise SelfRepairError(f"run {label_of(run)} is of {run['model']}, not of {model}. There are:\n{_listed(runs)}")
    return run


def _unknown_model(runs: Sequence[Run], name: str) -> str:
    known = list(dict.fromkeys(run["model"] for run in runs))
    lower = {model.lower(): model for model in known}
    without_owner = [model for model in known if model.lower().rpartition("/")[2] == name.lower()]
    near = without_owner or [lower[match] for match in difflib.get_close_matches(shortened(name).lower(), lower, n=3)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}."
    return f"model '{shortened(name)}' is not in this warehouse; {hint} See: {see('models')}"


def _listed(runs: Sequence[Run]) -> str:
    return "\n".join(f"  run {label_of(run)}: {_described(run)}" for run in runs)


def _described(run: Run) -> str:
    parts = [run["model"]]
    if run["revision"]:
        parts.append(f"revision {run['revision']}")
    if run["checkpoint"] is not None:
        parts.append(f"step {run['checkpoint']}")
    parts += [f"{run['n_prompts']:,} prompts of {dataset_of(run)}", run["dtype"], "+".join(run["ablations"])]
    parts.append(f"{run['n_selected_heads']} heads")
    if run["given_heads"]:
        parts.append(f"{', '.join(run['given_heads'])} ablated throughout")
    return ", ".join([*parts, f"{run['started_at']:%Y-%m-%d}", run["status"]])
