"""What a caller gets wrong is told with what is right."""

import inspect
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from selfrepair import Warehouse
from selfrepair.queries.client.calls import WAREHOUSE
from support.loaded import loaded
from support.refusals import refusal


def test_what_is_misspelt_is_answered_with_what_is_near(ours: Warehouse) -> None:
    assert "no column 'modle'; did you mean model? See: warehouse.describe(\"head_repair\")" in refusal(
        lambda: ours.view("head_repair", modle="x")
    )
    assert "no table or view 'head_repairs'; did you mean head_repair" in refusal(lambda: ours.view("head_repairs"))
    assert "no table or view 'x y; drop'" in refusal(lambda: ours.view("x y; drop"))
    assert "no row of head_repair has population 'top_2'; did you mean top2" in refusal(
        lambda: ours.view("head_repair", population="top_2")
    )
    assert ours.view("tokens", token="zebra").height == 0
    assert "there is no question, table or view 'headrepair'" in refusal(lambda: ours.describe("headrepair"))
    assert "there is no question 'most_repaired'; did you mean most_repaired_heads" in refusal(
        lambda: ours.question("most_repaired")
    )


def test_errors_speak_python_or_as_they_are_told(path: Path) -> None:
    assert refusal(lambda: Warehouse(path).sql("runz")).endswith("See: warehouse.views()")
    assert refusal(lambda: Warehouse(path, language="shell").sql("runz")).endswith("See: selfrepair views")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("tiny_model", 0, 0),
            "model 'tiny_model' is not in this warehouse; did you mean tiny-model? See: warehouse.models()",
        ),
        (
            (4, 0, 0),
            "there is no run 4 in this warehouse. There are:\n  run 1: tiny-model, revision a1b2c3, step 143000, 6 ",
        ),
        (("tiny-model", 3, 0), "tiny-model has layers 0 to 2, and no layer 3."),
        (("tiny-model", 0, -1), "tiny-model has heads 0 to 3, and no head -1."),
        (("tiny-model", 0, 0, "means"), "ablation 'means': there is no such ablation; it has resample, mean, zero."),
    ],
)
def test_rows_that_are_not_there(ours: Warehouse, args: tuple[object, ...], message: str) -> None:
    assert message in refusal(lambda: ours.rows(*args))


def test_files_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    def text(path: Path) -> str:
        return refusal(lambda: Warehouse(path, wait_s=0).sql("runs"))

    missing, empty, soup = (tmp_path / name for name in ("none.duckdb", "empty.duckdb", "soup.duckdb"))
    empty.touch()
    soup.write_text("a recipe\n" * 2000)
    assert refusal(lambda: Warehouse(missing)) == (
        f'there is no warehouse at {missing}. Make one (selfrepair.measure(model, prompts, into="{missing}")), or name '
        "another file."
    )
    assert not missing.exists()
    assert "is not a DuckDB file: it is empty" in text(empty)
    assert "is not a DuckDB file: it holds" in text(soup)
    assert "is a folder, not a warehouse file" in text(tmp_path)
    old, new, foreign = (loaded_as(tmp_path, name) for name in ("old", "new", "foreign"))
    with duckdb.connect(old) as con:
        con.execute("DELETE FROM schema_migration")
    with duckdb.connect(new) as con:
        con.execute(
            "UPDATE schema_migration SET version = 99 WHERE version = (SELECT max(version) FROM schema_migration)"
        )
    with duckdb.connect(foreign) as con:
        con.execute("DROP TABLE schema_migration")
    assert "Bring it up to date, nothing is lost: selfrepair load" in text(old)
    assert "a newer version wrote it" in text(new)
    assert "not a warehouse" in text(foreign)


def loaded_as(folder: Path, name: str) -> Path:
    return loaded(folder).rename(folder / f"{name}.duckdb")


class Unreadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("not a number",))


def test_a_parameter_that_cannot_be_sent_says_so(ours: Warehouse) -> None:
    assert "the parameters cannot be read" in refusal(lambda: ours.sql("SELECT $x", {"x": Unreadable()}))
    assert "the parameters cannot be sent" in refusal(lambda: ours.sql("SELECT $x", {"x": lambda: 0}))
    assert ours.sql("SELECT 1 AS one").item() == 1


def test_rows_of_what_is_no_head_or_no_number_say_so(ours: Warehouse) -> None:
    assert "layer takes the number of a layer" in refusal(lambda: ours.rows(1, "x", 0))  # type: ignore[arg-type]
    assert "rows are those of one head" in refusal(lambda: ours.rows(1, layer=1))
    assert "top=-1 selects no rows" in refusal(lambda: ours.rows(1, 0, 0, top=-1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda ours: ours.rows("tiny-model", heads="L1H3"),
            "argument 'heads'; did you mean head? The call: warehouse.rows(",
        ),
        (
            lambda ours: ours.rows(),
            "missing a required argument: 'model'. The call: warehouse.rows(model, layer=None, ",
        ),
        (lambda ours: ours.view(5), "name takes a name, as text, not 5. The call: warehouse.view(name, /, *, run=None"),
        (lambda ours: ours.view("runs", columns=5), "columns takes names of columns, 'all' or 'headline', not 5"),
        (
            lambda ours: ours.view("head_repair", model=1),
            "model=1 is no model's name. A run is meant by its number: run=1",
        ),
        (lambda ours: ours.view("head_repair", run=1, run_id=1), "run and run_id are the same"),
        (lambda ours: ours.sql(5), "query takes SQL or a name, as text, not 5"),
        (lambda ours: ours.sql("runs", limit="5"), "limit takes a number of rows, from 0, or None, not '5'"),
        (lambda ours: ours.sql("runs", timeout_s="5"), "timeout_s takes seconds, or None, not '5'"),
        (lambda ours: ours.sql("SELECT $x", 5), "params takes values by name, or a list of values, not 5"),
        (lambda ours: ours.ask_all("runs"), "queries takes a list of texts, not 'runs'"),
        (lambda ours: ours.describe(), "The call: warehouse.describe(name)"),
        (
            lambda ours: ours.question("run_checks", 1),
            "too many positional arguments. The call: warehouse.question(name",
        ),
        (lambda ours: ours.runs("tiny-model"), "too many positional arguments. The call: warehouse.runs()"),
        (
            lambda ours: Warehouse(ours.path, limit=5),
            "did you mean limits? The call: Warehouse(path=None, *, limits=None",
        ),
        (lambda ours: Warehouse(5), "path takes the path of a file, not 5"),
    ],
)
def test_a_wrong_call_is_told_the_right_one(ours: Warehouse, call: Callable[[Warehouse], object], message: str) -> None:
    assert message in refusal(lambda: call(ours))


def test_every_argument_says_what_it_takes() -> None:
    methods = [one for name, one in vars(Warehouse).items() if inspect.isfunction(one) and not name.startswith("_")]
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    for method in (*methods, Warehouse.__init__):
        assert hasattr(method, "__wrapped__"), method
        found = {name for name, one in inspect.signature(method).parameters.items() if one.kind in named} - {"self"}
        assert found <= WAREHOUSE.keys()
