"""The other side of a comparison: a second run and ablation, kept in the link."""

import dataclasses

from selfrepair.app.components.about import describe_other
from selfrepair.app.controls.linked import linked_selectbox
from selfrepair.app.controls.sidebar import all_runs
from selfrepair.app.data.choice import Choice
from selfrepair.app.data.chosen import choose, chosen
from selfrepair.queries.catalog.which_run import Run, label_of, title_of
from selfrepair.warehouse.schema import ABLATIONS


def choose_comparison(choice: Choice) -> Choice | None:
    """Draw the two widgets; the other side, which is never `choice` itself. None: there is nothing to compare with.

    At first it is another ablation of the same run.
    """
    runs = [run for run in all_runs() if run["status"] != "failed" or run["run_id"] == choice.run["run_id"]]
    comparable = {str(run["run_id"]): run for run in runs if _other_ablations(run, choice)}
    if not comparable:
        return None
    own = str(choice.run["run_id"])
    for named, run in comparable.items():
        if run["run_name"] is not None and run["run_name"] == chosen("run_b"):  # a link may name it
            choose("run_b", named)
    number = linked_selectbox(
        "Compare with run",
        list(comparable),
        "run_b",
        lambda number: label_of(comparable[number]),
        first=own if own in comparable else None,
        noun="run to compare with",
        on_choice=lambda _: choose("ablation_b", None),
        help="A run's number, as in the sidebar and in `selfrepair runs`.",
        width=200,
    )
    run = comparable[number]
    ablations = _other_ablations(run, choice)
    has_same = number != own and choice.ablation in ablations
    ablation = linked_selectbox(
        "Its ablation",
        ablations,
        "ablation_b",
        first=choice.ablation if has_same else None,
        noun="ablation to compare with",
        where=f"in run {number}, other than what it is compared with,",
        help="Default: the same ablation of another run, another one of the same run.",
        width=160,
    )
    other = dataclasses.replace(choice, run=run, ablation=ablation)
    describe_other(other)
    return other


def side_name(side: Choice) -> str:
    """A side in a few words, not escaped: 'gpt2 (run 1), mean', or 'gpt2 (run 1, baseline), mean'."""
    return f"{title_of(side.run)}, {side.ablation}"


def _other_ablations(run: Run, choice: Choice) -> list[str]:
    """The run's ablations without the one that is `choice` itself."""
    itself = choice.ablation if run["run_id"] == choice.run["run_id"] else None
    return [ablation for ablation in ABLATIONS if ablation in run["ablations"] and ablation != itself]
