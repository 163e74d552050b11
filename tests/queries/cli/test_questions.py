"""Questions, as they are typed."""

import csv
import io
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from selfrepair.queries.catalog import questions as library
from selfrepair.queries.cli.names import describe, questions
from selfrepair.queries.cli.query import query
from selfrepair.warehouse.errors import SelfRepairError
from support.commands import listed, run


def test_questions_lists_every_one_and_what_it_needs() -> None:
    text = run(questions).stdout
    assert sorted(listed(text)) == sorted(library.questions())
    assert "Needs layer, head." in text


def test_a_question_says_what_it_takes_and_answers() -> None:
    text = run(questions, "strongest_rows", "run_checks").stdout
    assert run(describe, "strongest_rows", "run_checks").stdout == text
    assert text.startswith("strongest_rows (question): Where does a head act")
    assert "\n\nrun_checks (question): Can the numbers be trusted?" in text
    words = [line.split() for line in text.splitlines()]
    assert ["layer", "INTEGER", "(needed)", "Layer", "of", "the"] in [line[:6] for line in words]
    assert ["context", "INTEGER", "tokens", "8", "Tokens"] in [line[:5] for line in words]
    assert ["direct_effect", "FLOAT", "logits"] in [line[:3] for line in words]
    assert "Run it: selfrepair query strongest_rows --param head=L9H6\n" in text


def test_a_question_is_asked_by_name(loaded: Path) -> None:
    args = ("most_repaired_heads", "--db", loaded, "--param", "at_most=3", "--csv")
    rows = list(csv.DictReader(io.StringIO(run(query, *args, "--param", "model=two").stdout)))
    assert [(row["run_id"], row["model"]) for row in rows] == [("2", "two")] * 3
    assert len(run(query, *args).stdout.splitlines()) == 1 + 2 * 3


def test_a_question_says_what_it_was_asked_about(loaded: Path) -> None:
    args = ("--param", "model=two", "--param", "ablation=mean", "--limit", "2")
    said, _, header, *_ = run(query, "most_repaired_heads", "--db", loaded, *args).stdout.splitlines()
    assert said == "run_id 2, model two, ablation mean, population top2"
    assert header.split()[0] == "label"
    one = run(query, "most_repaired_heads", "--db", loaded, *args[:2], "--param", "at_most=1").stdout.splitlines()
    assert one[0] == "ablation resample, population top2"  # the rest stands in its one row


def test_rows_of_several_kinds_are_told_with_the_way_to_one(loaded: Path) -> None:
    def last(*asked: str) -> str:
        return run(query, *asked, "--db", loaded).stdout.splitlines()[-1]

    note = "rows of several kinds: run_id 1, 2; ablation resample, mean, zero; population top2, top2_nobos, all"
    told, _, suggested = last("head_repair", "--columns", "all").partition(". To select one: ")
    assert told == note
    program, command, *alone = shlex.split(suggested)
    assert (program, command) == ("selfrepair", "query")
    assert alone == [
        "head_repair",
        *["--param", "run_id=1", "--param", "ablation=resample", "--param", "population=top2"],
    ]
    assert last(*alone, "--columns", "all").startswith("Errors and intervals here are of only 3 documents")
    first_5 = run(query, *alone, "--columns", "all", "--limit", "5", "--db", loaded).stdout
    assert "\nthe first 5 rows; more with --limit N\n" in first_5
    assert last("model_repair", "--columns", "all").startswith(note.partition("; population")[0])  # not truncated
    every_row = "SELECT ablation FROM self_repair;"
    assert last(every_row).endswith("kinds: ablation resample, mean, zero. To select one: WHERE ablation = 'resample'")
    assert last("SELECT DISTINCT ablation FROM self_repair") == "3 rows"
    assert last("figure_1", "--limit", "20").endswith(
        "kinds: run_id 1, 2. To select one: selfrepair query figure_1 --param run_id=1"
    )
    assert last("runs") == "2 rows"  # a run each


def test_few_rows_and_few_documents_are_said_below_what_they_make_uncertain(loaded: Path) -> None:
    def notes(*asked: str) -> list[str]:
        lines = run(query, *asked, "--db", loaded).stdout.splitlines()
        return [
            line.partition(":")[0] for line in lines if line.startswith(("There are numbers", "Errors and intervals"))
        ]

    rows, documents = "There are numbers here of a single row", "Errors and intervals here are of only 3 documents"
    assert notes("head_repair") == [rows]  # of which the first look shows no errors
    assert notes("most_repaired_heads") == notes("head_repair", "--columns", "all") == [rows, documents]
    assert notes("output_change") == ["There are numbers here of only 24 rows", documents]
    assert notes("runs") == []


def test_params_are_read_as_typed(loaded: Path) -> None:
    args = ("strongest_rows", "--db", loaded, "--param", "layer=1", "--param", "head=2", "--param", "run=1")
    assert run(query, *args).stdout.splitlines()[-1] == "1 row"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("head_repair", "--param", "layr=1"), "head_repair has no column 'layr'; did you mean layer"),
        (("head_repair", "--columns", "layr"), "head_repair has no column 'layr'; did you mean layer"),
        (("head_repair", "--param", "model=one_"), "model 'one_' is not in this warehouse; did you mean one?"),
        (("figure_2", "--param", "layer=1"), "there is no question, table or view 'figure_2'; did you mean figure_1?"),
        (
            ("figure_2",),
            "there is no question, table or view 'figure_2'; did you mean figure_1? "
            "See: selfrepair questions, selfrepair views",
        ),
        (
            ("most_repaired_head",),
            "did you mean most_repaired_heads or mlp_repaired_heads or most_repaired_tokens?",
        ),
        (("Head_repare",), "did you mean head_repair or"),
        (("xyzzy",), "there is no question, table or view 'xyzzy'. See: selfrepair questions, selfrepair views"),
        (("strongest_rows",), "question 'strongest_rows' needs layer and head"),
        (("run_checks", "--param", "run_id=9"), "there is no run 9 in this warehouse"),
    ],
)
def test_a_question_that_is_not_there_is_answered_in_words(args: tuple[str, ...], message: str, loaded: Path) -> None:
    with pytest.raises(SelfRepairError) as raised:
        run(query, *args, "--db", loaded)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("params", "message"),
    [(("layer",), "'layer' is not NAME=VALUE, such as layer=9"), (("a=1", "a=2"), "'a' is given twice; give it once")],
)
def test_a_param_is_a_name_and_a_value(params: tuple[str, ...], message: str, loaded: Path) -> None:
    options = [word for param in params for word in ("--param", param)]
    result = CliRunner().invoke(query, ["run_checks", "--db", str(loaded), *options])
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("param", "told"),
    [
        ("ablation=men", "No row of head_repair has ablation men; it has resample, mean, zero."),
        ("layer=77", "No row of head_repair has layer 77; it has 0, 1, 2."),
        ("head=L9H9", "No row of head_repair has label L9H9; it has L0H0, "),
    ],
)
def test_a_value_that_no_row_has_is_told_with_those_there_are(param: str, told: str, loaded: Path) -> None:
    result = run(query, "head_repair", "--param", param, "--db", loaded)
    assert told in result.output
