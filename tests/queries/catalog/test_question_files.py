"""Every question's file, and that its answer is as described."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import pytest
from polars.testing import assert_frame_equal

from selfrepair.queries.catalog import questions
from selfrepair.queries.catalog import relations as catalog
from selfrepair.queries.catalog.questions import bind, question
from selfrepair.queries.catalog.shared import CLUSTERED, INTERVALS
from selfrepair.queries.sandbox.reader import Reader
from support.answers import FAILED, GIVEN, answer, needed
from support.empty import with_marts

OF_THE_PAPER = {
    "A: the output changes less": {"output_change", "breakage_heads"},
    "B: how much, by what, where": {"most_repaired_heads", "figure_1", "parts_of_layer", "models_side_by_side"},
    "C: the final norm": {"norm_shrinkage", "norm_histogram", "frozen_norm"},
    "D: kinds of ablation": {"ablations_of_head", "ablations_that_disagree"},
    "E: noise": {"noise_of_head", "overrepaired_heads", "rows_of_head", "prompts_of_head"},
    "F: MLPs": {"mlp_repaired_heads", "strongest_rows", "neurons_of_head", "anti_erasure_neurons"},
    "G: iterative inference": {
        *(
            "repair_by_certainty",
            "repair_by_kind",
            "logit_lens_of_layer",
            "repair_where_wrong",
            "self_repression_of_heads",
        ),
    },
    "H: importance": {"missed_heads", "heaviest_tails", "tail_of_head", "measures_that_disagree"},
    "backup heads": {"who_repairs_head", "backup_heads_of_model", "hidden_backups"},
}
"""Questions about each of the paper's experiments."""


def test_every_file_is_a_question_and_no_view_has_its_name() -> None:
    files = {path.stem for path in (Path(questions.__file__).parents[1] / "questions").glob("*/*.sql")}
    assert files == questions.questions().keys()
    assert len(files) >= 18
    assert files.isdisjoint(catalog.relations())


def test_every_experiment_has_its_questions() -> None:
    assert set().union(*OF_THE_PAPER.values()) <= questions.questions().keys()


@pytest.fixture(scope="module")
def described() -> Mapping[str, catalog.Relation]:
    return catalog.catalogue((*catalog.views(), *questions.as_views(questions.questions().values())))


@pytest.fixture(scope="module")
def empty() -> Iterator[duckdb.DuckDBPyConnection]:
    with with_marts() as con:
        yield con


@pytest.mark.parametrize("name", questions.questions())
def test_every_column_is_described_as_it_comes(
    name: str, described: Mapping[str, catalog.Relation], empty: duckdb.DuckDBPyConnection
) -> None:
    sql, values = bind(name, needed(name))
    columns = [(column[0], column[1]) for column in empty.execute(f"DESCRIBE {sql}", values).fetchall()]
    assert [(column.name, column.type) for column in described[name].columns] == columns
    assert {"run_id", "model"} <= {column.name for column in described[name].columns}
    assert empty.execute(sql, values).fetchall() == []


def test_intervals_come_with_the_number_of_their_clusters(described: Mapping[str, catalog.Relation]) -> None:
    for name, relation in described.items():
        names = {column.name for column in relation.columns}
        of_intervals = {name + suffix for name in names for suffix in INTERVALS} & names
        clustered = of_intervals | {column.name for column in relation.columns if CLUSTERED in column.description}
        assert not clustered or "n_clusters" in names, (name, clustered)
        assert clustered.isdisjoint(relation.headline) or "n_clusters" in relation.headline, name


@pytest.mark.parametrize("name", questions.questions())
def test_an_answer_has_a_row_a_grain_and_every_run_that_did_not_fail(name: str, reader: Reader) -> None:
    frame = answer(reader, name)
    assert not frame.select(question(name).view.grain).is_duplicated().any()
    runs = {2} if "other_run_id" in frame.columns else {1, 2, 3}
    if name == "run_checks":
        runs.add(FAILED)
    if name == "hidden_backups":
        runs = {GIVEN}
    assert set(frame["run_id"]) == runs
    if "run_id" in question(name).parameters and name != "compare_runs":
        for chosen, run_id in (({"run_id": 3}, 3), ({"model": "one"}, 1)):
            # sums of ratios are added up in another order
            assert_frame_equal(answer(reader, name, **chosen), frame.filter(run_id=run_id), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize(
    "name", [name for name, asked in questions.questions().items() if "at_most" in asked.parameters]
)
def test_at_most_so_many_rows_of_each_run(name: str, reader: Reader) -> None:
    all_rows = answer(reader, name, at_most=10_000)
    frame = answer(reader, name, at_most=2)
    counts = all_rows.group_by("run_id").len()
    assert counts["len"].max() > 2  # type: ignore[operator]
    assert frame.height == counts["len"].clip(upper_bound=2).sum()
    assert frame.join(all_rows, on=frame.columns, how="anti", nulls_equal=True).is_empty()
