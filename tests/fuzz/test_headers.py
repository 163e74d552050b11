"""Any text that is given as a view's file is a view or a HeaderError, and what was read from it is what stands there."""

from hypothesis import example, given
from hypothesis import strategies as st

from selfrepair.queries.catalog.header import HeaderError, parse_file, parse_view
from selfrepair.queries.catalog.parameters import parse_parameters
from support.tiers import examples

_LINES = (
    *(
        "A sentence.",
        "Grain: run_id, layer",
        "Grain:",
        "Paper: 3.1",
        "Paper:",
        "Headline: a, b",
        "Kept: mart",
        "Kept: x",
    ),
    *(
        "Columns:",
        "Parameters:",
        "  depth DOUBLE: a depth [logits]",
        "  depth DOUBLE:",
        "    and more [unit]",
        "  x: y",
    ),
    *("  layer INTEGER = 3: Layer", "  layer INTEGER = x: Layer", "  model, run_id, at_most = 10", "  at_most = NULL"),
    *(
        "  word a|b = c: One",
        "  tokens VARCHAR[] = []: Some",
        "  many DOUBLE[] = [1: Some",
        "  flag BOOLEAN = 2: On",
        "",
    ),
    *(
        "  head VARCHAR = NULL: Head",
        "  n INTEGER = 1e400: n",
        "  n INTEGER = 9223372036854775808: n",
        " ",
        "Grain: x\x0cy",
    ),
)
_SHORT = st.text(st.sampled_from("abcXY_ :=|[],.-\t\u00a0\x85\u2028\x1c"), max_size=12)
comments = st.lists(st.one_of(st.sampled_from(_LINES), _SHORT, st.sampled_from(_LINES).map(str.strip)), max_size=14)


@example(["A sentence.", "", "Grain: a", "Paper: 1", "", "Parameters:", "  x FOO: y"], "SELECT 1")
@given(comments, st.sampled_from(("SELECT 1", "", "-- x\nSELECT 1", "\n", "SELECT\x0b1")))
@examples(quick=100, full=500)
def test_a_file_is_a_view_or_says_what_is_wrong_in_it(lines: list[str], sql: str) -> None:
    text = "\n".join([*(f"-- {line}" if line else "--" for line in lines), sql])
    try:
        view = parse_file("mine", text, "topic")
        parameters = parse_parameters(view.parameters)
    except HeaderError:
        return
    assert view.summary
    assert view.sql
    assert all(column.name == name for name, column in view.columns.items())
    assert all(parameter.name == name for name, parameter in parameters.items())


@given(st.text(max_size=200))
@examples(quick=50, full=200)
def test_any_text_is_too(text: str) -> None:
    try:
        said = f"views/mine.sql: {parse_view('mine', text).summary}"
    except HeaderError as error:
        said = str(error)
    assert said.startswith("views/mine.sql: ")
