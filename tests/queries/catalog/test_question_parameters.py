"""What a question takes: the files' headers, and values as they are typed."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfrepair.queries.catalog import questions
from selfrepair.queries.catalog.header import HeaderError
from selfrepair.queries.catalog.parameters import Parameter
from selfrepair.queries.catalog.questions import bind, parse_question, question
from selfrepair.queries.sandbox.reader import Reader
from selfrepair.warehouse.errors import SelfRepairError, errors_in
from support.answers import answer
from support.empty import installed

TEXT = """-- Which rows?
--
-- Grain: run_id
-- Paper: none
--
-- A paragraph.
--
-- Parameters:
--   layer INTEGER: Layer of
--     the head [layers]
--   kind first|second = second: Which one
--   share DOUBLE = 0.5: How much: a part [ratio]
--   words VARCHAR[] = []: Only these
--   last BOOLEAN = false: Whether
--   run_id INTEGER = NULL: The run
--
-- Columns:
--   n BIGINT: Rows [rows]

SELECT run_id, count(*) AS n -- not $unknown
FROM measurements
WHERE layer = $layer AND ($run_id IS NULL OR run_id = $run_id) AND $kind = '$dollar'
    AND $share > 0 AND $last AND list_contains($words, 'x')
GROUP BY run_id
"""


def test_a_file_is_read() -> None:
    asked = parse_question("mine", TEXT)
    assert (asked.view.summary, asked.view.notes) == ("Which rows?", ("A paragraph.",))
    assert list(asked.parameters.values()) == [
        Parameter("layer", "INTEGER", "Layer of the head", "layers", required=True),
        Parameter("kind", "first|second", "Which one", default="second", choices=("first", "second")),
        Parameter("share", "DOUBLE", "How much: a part", "ratio", default=0.5),
        Parameter("words", "VARCHAR[]", "Only these", default=[]),
        Parameter("last", "BOOLEAN", "Whether", default=False),
        Parameter("run_id", "INTEGER", "The run", default=None),
    ]
    assert [parameter.sql_type for parameter in asked.parameters.values()] == [
        *("INTEGER", "VARCHAR", "DOUBLE", "VARCHAR[]", "BOOLEAN", "INTEGER")
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("--   layer INTEGER: Layer of\n--     the head [layers]\n", "", "the SELECT uses kind, last, layer, run_id"),
        ("$share > 0 AND ", "", "'Parameters:' describes kind, last, layer, run_id, share, words"),
        ("share DOUBLE = 0.5", "share DECIMAL = 0.5", "parameter 'share' has type DECIMAL; it can have VARCHAR"),
        (
            "share DOUBLE = 0.5",
            "share DOUBLE = half",
            "the default of parameter 'share': it takes a number, not 'half'",
        ),
        ("= second", "= third", "the default of parameter 'kind': it takes first or second, not 'third'"),
        (
            "--   last BOOLEAN = false: Whether",
            "--   last",
            "a parameter reads 'name TYPE = default: description [unit]'",
        ),
        ("--   last BOOLEAN", "--   share BOOLEAN", "parameter 'share' is described twice"),
        ("-- Paper: none\n", "", "the header has no line 'Paper: ...'"),
        ("-- Paper: none\n", "-- Paper: none\n-- Kept: mart\n", "a question is not kept"),
    ],
)
def test_what_a_file_gets_wrong_is_named(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(HeaderError) as raised:
        parse_question("mine", TEXT.replace(old, new))
    assert str(raised.value).startswith("questions/mine.sql: ")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        ("VARCHAR", "9", "9"),
        ("INTEGER", " 9", 9),
        ("INTEGER", 9, 9),
        ("INTEGER", "-1", -1),
        ("DOUBLE", "1e-3", 0.001),
        ("DOUBLE", 2, 2.0),
        ("BOOLEAN", "True", True),
        ("BOOLEAN", False, False),
        ("INTEGER[]", "1, 2", [1, 2]),
        ("INTEGER[]", "[3]", [3]),
        ("INTEGER[]", (4, "5"), [4, 5]),
        ("INTEGER[]", 6, [6]),
        ("VARCHAR[]", "", []),
        ("INTEGER", "NULL", None),
        ("VARCHAR", None, None),
    ],
)
def test_text_and_python_values_become_the_type(kind: str, value: object, parsed: object) -> None:
    found = Parameter("p", kind, "P").parse(value)
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("VARCHAR", 9, "takes text, not 9"),
        ("INTEGER", "nine", "takes a whole number, not 'nine'"),
        ("INTEGER", 1.5, "takes a whole number, not 1.5"),
        ("INTEGER", True, "takes a whole number, not True"),
        ("INTEGER", 2**31, "takes a whole number"),
        ("DOUBLE", "nan", "takes a number, not 'nan'"),
        ("DOUBLE", [], "takes a number"),
        ("BOOLEAN", "yes", "takes true or false, not 'yes'"),
        ("INTEGER[]", "1,x", "takes whole numbers, separated by commas, not 'x'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(kind: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Parameter("p", kind, "P").parse(value)


def test_null_is_only_for_parameters_that_may_be_left_out() -> None:
    for parameter in (Parameter("p", "INTEGER", "P", required=True), Parameter("p", "INTEGER", "P", default=1)):
        for value in (None, "NULL"):
            with pytest.raises(ValueError, match="takes a whole number, not"):
                parameter.parse(value)


def test_binding_fills_in_what_is_left_out() -> None:
    sql, values = bind("strongest_rows", {"layer": "9", "head": 6, "run": "2"})
    assert sql == question("strongest_rows").sql
    assert values == {
        "model": None,
        "run_id": 2,
        "ablation": "resample",
        "layer": 9,
        "head": 6,
        "sort": "direct_effect",
        "context": 8,
        "at_most": 20,
    }


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("figure_2", {}, "there is no question 'figure_2'; did you mean figure_1? See: selfrepair questions"),
        ("xyzzy", {}, "there is no question 'xyzzy'. See: selfrepair questions"),
        (
            "run_checks",
            {"modl": "a"},
            "question 'run_checks' has no parameter 'modl'; did you mean model? It takes: model, run_id. "
            "See: selfrepair describe run_checks",
        ),
        (
            "tail_of_head",
            {"head": 1},
            "question 'tail_of_head' needs layer: selfrepair query tail_of_head --param head=L9H6. "
            "See: selfrepair describe tail_of_head",
        ),
        (
            "run_checks",
            {"run_id": 1.5},
            "parameter 'run_id' of question 'run_checks' takes a run's number or name, not 1.5. "
            "See: selfrepair describe run_checks",
        ),
        (
            "figure_1",
            {"ablation": "zer"},
            "parameter 'ablation' of question 'figure_1' takes resample or mean or zero, not 'zer'. "
            "See: selfrepair describe figure_1",
        ),
    ],
)
def test_what_a_caller_gets_wrong_is_said(name: str, params: dict[str, Any], message: str) -> None:
    with pytest.raises(SelfRepairError) as raised:
        bind(name, params)
    assert str(raised.value) == message


@pytest.mark.parametrize("given", [{"head": "L9H6"}, {"head": " l9h6", "layer": "9"}, {"head": "L9H6", "layer": 9}])
def test_a_heads_name_stands_for_its_layer_too(given: dict[str, Any]) -> None:
    for name in ("tail_of_head", "repair_by_kind"):
        _, values = bind(name, given)
        assert (values["layer"], values["head"]) == (9, 6)


def test_a_heads_name_and_another_layer_contradict_each_other() -> None:
    with pytest.raises(
        SelfRepairError, match=r"L9H6 is a head of layer 9, and layer=8 was given. Leave out the layer."
    ):
        bind("tail_of_head", {"head": "L9H6", "layer": 8})
    with pytest.raises(SelfRepairError, match=r"'head' of question 'tail_of_head' takes a whole number, not '9.6'"):
        bind("tail_of_head", {"head": "9.6", "layer": 8})


def test_errors_end_in_the_callers_language() -> None:
    with errors_in("python"), pytest.raises(SelfRepairError) as raised:
        bind("tail_of_head", {})
    assert str(raised.value) == (
        "question 'tail_of_head' needs layer and head: warehouse.question(\"tail_of_head\", head='L9H6'). "
        'See: warehouse.describe("tail_of_head")'
    )


def test_a_warehouse_without_runs_has_no_answer(tmp_path: Path) -> None:
    with Reader(installed(tmp_path)) as reader:
        assert answer(reader, "run_checks").is_empty()


def test_parameters_in_text_and_comments_are_no_parameters() -> None:
    asked = parse_question("mine", TEXT)
    (view,) = questions.as_views([replace(asked, view=replace(asked.view, sql="SELECT $layer AS layer"))])
    assert view.sql == "SELECT CAST(NULL AS INTEGER) AS layer"
