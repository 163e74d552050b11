"""What a view from Python warns of and refuses: few rows, heads that are not there; and how a run is named."""

import warnings
from datetime import datetime

import pytest

from selfrepair import FewRows, Warehouse
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import views
from selfrepair.queries.catalog.which_run import newest_last, title_of
from selfrepair.warehouse.errors import SelfRepairError
from support.loaded import loaded


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return Warehouse(loaded(tmp_path_factory.mktemp("loaded")))


def test_means_of_few_rows_in_a_view_are_a_warning(ours: Warehouse) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours.view("head_repair", population="top2", ablation="mean")
        ours.view("measurements", limit=3)
        ours.view("head_repair", columns=["label", "mean_self_repair"])
    assert [(warning.category, warning.filename) for warning in caught if warning.category is FewRows] == [
        (FewRows, __file__)
    ] * 2
    assert "a single row: fewer than 30 say little" in str(caught[0].message)


@pytest.mark.parametrize("run", [{}, {"run": 1}, {"model": "tiny-model"}])
def test_heads_that_are_not_there_are_refused_with_those_that_are(ours: Warehouse, run: dict[str, object]) -> None:
    with pytest.raises(SelfRepairError) as refused:
        ours.view("head_repair", head=["L1H2", "L9H9", "L0H7"], **run)
    where = "run 1" if run else "this warehouse"
    assert str(refused.value).startswith(f"{where} has no head L9H9, L0H7; it has L0H0, L0H1, L0H2, L0H3, L1H0, ")
    with pytest.raises(SelfRepairError, match="has no head L9H9; it has L0H0"):
        ours.view("head_noise", head="L9H9", **run)
    assert ours.view("head_repair", head=["L1H2", "L0H3"], ablation="zero", population="all", **run).height == 2


def test_run_is_told_as_a_parameter_wherever_a_run_is_asked_for() -> None:
    for name, question in questions().items():
        if "run_id" in question.parameters:
            assert "also given as run" in question.parameters["run_id"].description, name


def test_a_verdict_says_itself_when_there_is_not_enough_data() -> None:
    every = [*views(), *(question.view for question in questions().values())]
    verdicts = [view.columns["verdict"].description for view in every if "verdict" in view.columns]
    assert len(verdicts) >= 6
    for text in verdicts:
        assert "'not enough data': " in text, text
        assert "fewer than 12 clusters" in text, text


def test_the_newest_run_is_the_one_that_was_started_last() -> None:
    runs = [
        {"run_id": number, "run_name": name, "model": "gpt2", "started_at": datetime(2026, month, 1)}
        for number, name, month in ((1, "baseline", 9), (2, None, 3), (3, None, 9))
    ]
    assert [run["run_id"] for run in newest_last(runs)] == [2, 1, 3]
    assert [title_of(run) for run in runs[:2]] == ["gpt2 (run 1, baseline)", "gpt2 (run 2)"]
