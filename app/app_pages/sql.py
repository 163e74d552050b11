"""Any question to the warehouse in SQL: written, taken from the questions, or brought by a link."""

import time
from collections.abc import Sequence
from urllib.parse import quote

import polars as pl
import streamlit as st

from selfrepair.app.charts.quick import KINDS, drawable, first_axes, quick
from selfrepair.app.components import snippets
from selfrepair.app.components.figure import below, show
from selfrepair.app.controls import question_form
from selfrepair.app.data.answers import MOST_ROWS, TIME_LIMIT_S, Rows, answered, ask, tell, warehouse_path
from selfrepair.app.wording.columns import known_columns
from selfrepair.app.wording.escape import plain
from selfrepair.queries.catalog.describe import grouped
from selfrepair.queries.catalog.header import Column
from selfrepair.queries.catalog.questions import questions
from selfrepair.queries.catalog.relations import relations
from selfrepair.queries.catalog.which_run import RUNS
from selfrepair.queries.sandbox.fence import LONGEST_QUERY
from selfrepair.warehouse.errors import SelfRepairError

LONGEST_LINK = 6_000
"""Characters that a query may have in a link, as written there; more is refused on the way by servers and messengers."""

MOST_HISTORY = 50
TEXT_WIDTH, ROW_HEIGHT = 330, 66
"""Of a column of sentences, which are up to three lines long [pixels]."""

FIRST = """SELECT label, mean_direct_effect, mean_self_repair, total_fraction_of_effect
FROM head_repair
WHERE ablation = 'resample' AND population = 'top2'
ORDER BY mean_self_repair DESC"""

state = st.session_state


def run(sql: str) -> None:
    """Have the page answer `sql` and show it in the editor; of a question's name the form, as that may have to be told more."""
    state.editor = sql
    if (name := sql.strip().removesuffix(";").rstrip()) in questions():
        state.beside, state.question, state.asked = "Questions", name, ""
        st.query_params.pop("sql", None)
        return
    state.asked = sql
    state.is_new = True


def run_editor() -> None:
    """The same with what was typed."""
    run(state.editor)


def take_link() -> None:
    """Answer the query of a link, once for each that is opened: it is fenced like any other."""
    linked = st.query_params.get("sql")
    if linked is not None and linked != state.get("linked"):
        run(linked)
        state.linked = linked
    if "editor" not in state:
        state.editor = state.get("asked", FIRST)


def show_link(sql: str) -> None:
    """Keep the query in the page's address, as long as it fits."""
    if len(quote(sql)) <= LONGEST_LINK:
        st.query_params["sql"] = state.linked = sql
        return
    st.query_params.pop("sql", None)
    state.pop("linked", None)
    st.caption(f"This query is too long for a link ({len(quote(sql)):,} of {LONGEST_LINK:,} characters).")


def listing(key: str, heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table of what there is to choose; a click on a cell chooses its row's first for the widget `key`."""

    def choose() -> None:
        cells = state[f"list of {key}"].selection.cells
        if cells:
            state[key] = rows[cells[0][0]][0]

    st.dataframe(
        pl.DataFrame(rows, schema=list(heading), orient="row"),
        key=f"list of {key}",
        hide_index=True,
        height=420,
        row_height=ROW_HEIGHT,
        column_config={heading[1]: st.column_config.Column(width=TEXT_WIDTH)},
        on_select=choose,
        selection_mode="single-cell",
    )


def described(column: Column) -> str:
    """What a column is, as Markdown: its name, type and unit, and below them its meaning."""
    kind = f"{column.type} [{column.unit}]" if column.unit else column.type
    return f"**{plain(column.name)}** :gray[{plain(kind)}]  \n{plain(column.description)}"


def tables() -> None:
    """Every table and view by group, and the columns of the chosen one."""
    groups = {relation.name: heading for heading, group in grouped(relations().values()).items() for relation in group}
    name = st.selectbox(
        "Table or view",
        list(groups),
        index=None,
        key="view",
        bind="query-params",
        placeholder="Type to find one",
        label_visibility="collapsed",
    )
    if name is None:
        summaries = [(name, relations()[name].summary, heading) for name, heading in groups.items()]
        listing("view", ("name", "what it is", "group"), summaries)
        return
    relation = relations()[name]
    grain = f" One row for each {', '.join(relation.grain)}." if relation.grain else ""
    st.caption(plain(f"{relation.summary}{grain}"))
    with st.container(height=310):
        st.markdown("\n\n".join(map(described, relation.columns)))
    st.button("Ask it", on_click=run, args=[f"FROM {name}\nLIMIT 100"], icon=":material/play_arrow:")


def library() -> None:
    """The questions that come with selfrepair, each with a form for what it takes."""
    known = questions()
    name = st.selectbox(
        "Question",
        list(known),
        index=None,
        key="question",
        bind="query-params",
        placeholder="Type to find one",
        label_visibility="collapsed",
    )
    if name is None:
        listing("question", ("name", "question"), [(name, question.view.summary) for name, question in known.items()])
        return
    question = known[name]
    st.caption(plain(" ".join([question.view.summary, *question.view.notes])))
    runs = ask(RUNS).to_dicts()
    with st.form("question form", border=False):
        with st.container(height=230, border=False):
            given = question_form.draw(question, runs)
        asked = st.form_submit_button("Ask", icon=":material/play_arrow:")
    if asked:
        try:
            state.from_question = question_form.sql_of(question, given, runs)
        except SelfRepairError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.rerun()


def history() -> None:
    """What was asked in this session, the latest first."""
    asked = state.get("history", [])
    if not asked:
        st.caption("What you ask in this session will be listed here.")
        return
    with st.container(height=380, border=False):
        for number, (at, sql, outcome) in enumerate(reversed(asked)):
            line = " ".join(sql.split())
            label = plain(line if len(line) <= 70 else f"{line[:70]}...") or "(empty)"
            st.button(
                label, key=f"history {number}", on_click=run, args=[sql], type="tertiary", help=f"{at}, {outcome}"
            )


def remember(sql: str, outcome: str) -> None:
    """Add what was asked just now to the history."""
    if state.pop("is_new", False):
        state.history = [*state.get("history", []), (time.strftime("%H:%M:%S"), sql, outcome)][-MOST_HISTORY:]


def tell_error(text: str) -> None:
    """DuckDB's message, and below it the line it is about with a mark at the place."""
    lines = text.splitlines()
    place = next((number for number, line in enumerate(lines) if line.startswith("LINE ")), len(lines))
    st.error(plain("\n".join(lines[:place]).strip()), icon=":material/error:")
    if lines[place:]:
        st.code("\n".join(lines[place : place + 2]), language=None)


def elsewhere(sql: str) -> None:
    """The query to copy into a shell or a program."""
    with st.popover("Elsewhere", type="tertiary", icon=":material/content_copy:"):
        for heading, told, language in (
            ("Python, as a polars frame", snippets.python, "python"),
            ("Shell, all rows as CSV", snippets.selfrepair, "bash"),
            ("DuckDB's own program", snippets.duckdb, "bash"),
        ):
            st.caption(heading)
            st.code(told(sql, warehouse_path()), language=language, height=200 if sql.count("\n") > 5 else "content")


def result(sql: str, rows: Rows) -> None:
    """The answer as a table or a picture, with all that belongs to it."""
    frame = rows.frame
    counted = f"{frame.height:,} {'row' if frame.height == 1 else 'rows'}"
    with st.container(horizontal=True, vertical_alignment="center"):
        shape = st.segmented_control(
            "Show as", ["table", "picture"], default="table", key="as", bind="query-params", required=True,
            label_visibility="collapsed",
        )  # fmt: skip
        st.caption(f"{counted}, {frame.width:,} columns, in {rows.seconds:.2f} s")
        elsewhere(sql)
    if rows.truncated:
        st.warning(
            f"These are the first {frame.height:,} rows; the query has more. 'Elsewhere' has a line that writes all of them.",
            icon=":material/content_cut:",
        )
    if rows.stale:
        st.warning(plain(rows.stale), icon=":material/history:")
    if shape == "picture":
        picture(sql, frame)
        return
    config = {
        name: st.column_config.Column(help=plain(f"{known.comment} (of {known.name} in the warehouse)"))
        for name, known in known_columns(tuple(frame.columns)).items()
    }
    st.dataframe(frame, hide_index=True, column_config=config, height=min(600, 38 + 35 * max(1, frame.height)))
    below(frame, sql, name="answer")


def picture(sql: str, frame: pl.DataFrame) -> None:
    """A quick chart of the answer."""
    columns = frame.columns
    first_x, first_y = first_axes(frame)
    with st.container(horizontal=True):
        kind = st.selectbox("Kind", KINDS, key="kind", bind="query-params", width=140)
        x = st.selectbox("x", columns, index=columns.index(first_x), key="x", bind="query-params", width=220)
        y = x
        if kind != "histogram":
            y = st.selectbox("y", columns, index=columns.index(first_y), key="y", bind="query-params", width=220)
        colour = st.selectbox("Colour", columns, index=None, key="colour", bind="query-params", width=220)
    shown = drawable(frame, x, y)
    if shown.height < frame.height:
        st.caption(f"{frame.height - shown.height:,} rows have no place in the picture: NULL, or not finite.")
    keys = [x] if colour is None else [x, colour]
    if kind == "bars" and shown.select(keys).is_duplicated().any():
        st.caption("Several rows share a bar and hide each other. GROUP BY in the query makes one row of them.")
    titles = {name: f"{name} [{known.unit}]" for name, known in known_columns(tuple(columns)).items() if known.unit}
    show(quick(shown, kind, x, y, colour, titles), shown, sql, name="picture")


take_link()
if "from_question" in state:
    run(state.pop("from_question"))
st.title("SQL")
st.html("<style>.stTextArea textarea { font-family: monospace !important; }</style>")
left, right = st.columns(2, gap="medium")
with left, st.form("query", border=False):
    st.text_area(
        "SQL",
        key="editor",
        height=380,
        max_chars=LONGEST_QUERY,
        label_visibility="collapsed",
        placeholder="One SELECT, or the name of a table, view or question",
        persist_state="session",
    )
    st.form_submit_button("Run", type="primary", on_click=run_editor, icon=":material/play_arrow:", help="Ctrl+Enter")
with right:
    beside = {"Tables and views": tables, "Questions": library, "History": history}
    panel = st.segmented_control(
        "Beside the editor", list(beside), default="Tables and views", key="beside", bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    beside[panel]()

sql = state.get("asked", "")
if sql.strip():
    show_link(sql)
    try:
        with st.spinner(f"Asking, {TIME_LIMIT_S:g} s at most", show_time=True):
            rows = answered(sql, MOST_ROWS, flat=True)
    except SelfRepairError as error:
        remember(sql, "no answer")
        tell_error(str(error))
    else:
        remember(sql, f"{rows.frame.height:,} rows, {rows.seconds:.2f} s")
        tell(rows)
        result(sql, rows)
else:
    st.caption(
        f"The warehouse is only read: one SELECT at a time, {MOST_ROWS:,} rows and {TIME_LIMIT_S:g} s at most. Press Run, "
        "or take a view or a question."
    )
